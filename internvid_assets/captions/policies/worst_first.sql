-- Those whose caption fits worst, or that have none; then the most beautiful, then the newest.
select batch, clip_id, previous_captioner, previous_version
from stale
order by is_refused, similarity asc nulls first, aesthetic desc nulls last, batch desc, clip_id

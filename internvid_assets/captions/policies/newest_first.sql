-- The newest batches, and in each the clips whose caption fits worst.
select batch, clip_id, previous_captioner, previous_version
from stale
order by is_refused, batch desc, similarity asc nulls first, clip_id

"""Clips: one decode pass per video gives cuts, statistics and small frames."""

from internvid_assets.clips.scan import ClipScan, ScanError, ScanOptions, VideoScan, scan_clips, scan_video

__all__ = ["ClipScan", "ScanError", "ScanOptions", "VideoScan", "scan_clips", "scan_video"]

package spool

import "os"

// SetSync replaces the sync of segments. It comes before Run.
func (s *Spool) SetSync(sync func(*os.File) error) { s.sync = sync }

// SegmentHeader and FrameHeader are the sizes of the format.
const (
	SegmentHeader = segmentHeader
	FrameHeader   = frameHeader
)

package spool

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
)

const (
	// maxBlock is the room that a batch asks for where there is much to read.
	maxBlock = 512 << 10
	// maxStretch bounds what one turn reads before it looks around.
	maxStretch = 16 << 20
)

// laneReader passes the records of the peers that belong to one lane on to it.
type laneReader struct {
	spool    *Spool
	lane     record.Lane
	number   int
	lanes    int
	progress *progress

	// owned by run
	place   int64    // of the next frame
	file    *os.File // of the segment that is read; nil: none yet
	scan    scanner  // over file
	limit   int64    // where its segment ends
	flights []flight // of the batch that is filled
	flying  map[string]int
}

func newLaneReader(s *Spool, lane record.Lane, number, lanes int) *laneReader {
	return &laneReader{
		spool: s, lane: lane, number: number, lanes: lanes,
		progress: newProgress(s.start), place: s.start, flying: make(map[string]int),
	}
}

// run reads until ctx ends, or nothing will be written any more and all is read.
func (r *laneReader) run(ctx context.Context) error {
	defer r.closeFile()
	pulse := r.spool.config.pulse("reader of the spool", true)
	defer pulse.Begin()()
	for {
		pulse.Answer()
		durable, changed, finished := r.spool.readable()
		if r.place >= durable {
			if finished {
				return nil
			}
			r.letGo()
			select {
			case <-changed:
				continue
			case <-pulse.Asked():
				continue
			case <-ctx.Done():
				return nil
			}
		}
		err := r.turn(ctx, durable)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errUnreadable):
			if !r.pause(ctx, err) {
				return nil
			}
		case err != nil:
			return err
		}
	}
}

// errUnreadable is an error of the disk under the log, which may pass.
var errUnreadable = errors.New("the spool can't be read")

// errNoFrame is what is wrong with damaged bytes.
var errNoFrame = errors.New("no record begins here")

// pause waits before a read that failed is tried again.
func (r *laneReader) pause(ctx context.Context, cause error) bool {
	r.spool.unreadable(cause)
	wait := time.NewTimer(retryAfter)
	defer wait.Stop()
	select {
	case <-wait.C:
		r.spool.unreadable(nil)
		return true
	case <-ctx.Done():
		return false
	}
}

// turn fills one batch with what is there and submits it.
func (r *laneReader) turn(ctx context.Context, durable int64) error {
	r.flights = r.flights[:0]
	clear(r.flying)
	batch, bytes, err := r.fill(ctx, durable)
	// What was read before an error is the lane's all the same.
	r.progress.begin(r.flights, r.place)
	if batch == nil {
		return err
	}
	records := batch.Rows()
	if records == 0 {
		r.lane.Discard(batch)
		return err
	}
	if failed := r.lane.Submit(ctx, batch); failed != nil {
		return failed
	}
	r.spool.metrics.records.Add(float64(records))
	r.spool.metrics.bytes.Add(float64(bytes))
	return err
}

// fill reads frames until a batch is full or nothing is left to read.
func (r *laneReader) fill(ctx context.Context, durable int64) (b *record.Batch, bytes int, err error) {
	begin := r.place
	for r.place < durable && r.place-begin < maxStretch {
		f, ok, err := r.next(durable)
		if err != nil {
			return b, bytes, err
		}
		if !ok {
			continue
		}
		if !r.owns(f.peer) {
			r.place = f.end
			continue
		}
		if b == nil {
			b, err = r.lane.NewBatch(ctx, int(max(min(durable-r.place, maxBlock), int64(len(f.value)))))
			if err != nil {
				return nil, 0, err
			}
		}
		block := b.Value.Blocks[0]
		if b.Rows() == record.MaxRows || b.Rows() > 0 && len(block)+len(f.value) > cap(block) {
			return b, bytes, nil
		}
		b.Value.Blocks[0] = append(block, f.value...)
		b.Append(r.streamOf(&f), record.Span{Offset: uint32(len(block)), Length: uint32(len(f.value))}, f.time, f.begin, f.end)
		bytes += len(f.value)
		r.place = f.end
	}
	return b, bytes, nil
}

// streamOf returns the stream of a frame and takes the frame in flight.
func (r *laneReader) streamOf(f *frame) *stream {
	if n := len(r.flights); n > 0 && r.flights[n-1].stream.origin.Peer == string(f.peer) {
		r.flights[n-1].last = f.end
		return r.flights[n-1].stream
	}
	if n, ok := r.flying[string(f.peer)]; ok {
		r.flights[n].last = f.end
		return r.flights[n].stream
	}
	s := r.progress.find(f.peer)
	if s == nil {
		s = &stream{progress: r.progress, origin: record.Origin{Kind: r.spool.config.Kind, Peer: string(f.peer), Host: r.spool.config.Host}}
	}
	r.flying[s.origin.Peer] = len(r.flights)
	r.flights = append(r.flights, flight{stream: s, first: f.begin, last: f.end})
	return s
}

// next returns the frame at the reader's place. Where there is none it moves on,
// into the next segment or behind what is damaged, and ok is false.
func (r *laneReader) next(durable int64) (f frame, ok bool, err error) {
	if r.file == nil || r.place >= r.limit {
		if err := r.open(); errors.Is(err, os.ErrNotExist) {
			gone := r.spool.segmentAt(r.place)
			r.spool.found(gone.first, stretch{r.place, min(durable, gone.end)}, err)
			r.place = min(durable, gone.end)
			return frame{}, false, nil
		} else if err != nil {
			return frame{}, false, fmt.Errorf("%w: %w", errUnreadable, err)
		}
	}
	limit := min(durable, r.limit)
	f, ok, err = r.scan.next(r.place, limit)
	if err != nil {
		return frame{}, false, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if ok {
		return f, true, nil
	}
	behind, err := r.scan.find(r.place+1, limit)
	if err != nil {
		return frame{}, false, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	r.spool.found(r.scan.header.first, stretch{r.place, behind}, errNoFrame)
	r.place = behind
	return frame{}, false, nil
}

// owns says whether a peer belongs to the lane.
func (r *laneReader) owns(peer []byte) bool {
	return r.lanes == 1 || int(maphash.Bytes(r.spool.seed, peer)%uint64(r.lanes)) == r.number
}

// open opens the segment that holds the reader's place.
func (r *laneReader) open() error {
	g := r.spool.segmentAt(r.place)
	if r.file != nil && r.scan.header.first == g.first {
		r.limit = g.end
		return nil
	}
	r.closeFile()
	file, err := openAt(r.spool.dir, g.name(), os.O_RDONLY)
	if err != nil {
		return err
	}
	r.file, r.limit = file, g.end
	r.scan = scanner{input: file, header: g.header, buffer: r.scan.buffer[:0]}
	return nil
}

// letGo closes a segment that was freed: its space is given back with that.
func (r *laneReader) letGo() {
	if r.file != nil && r.spool.freed(r.scan.header.first) {
		r.closeFile()
	}
}

func (r *laneReader) closeFile() {
	if r.file != nil {
		r.file.Close() // read only: nothing to lose
		r.file = nil
	}
}

// readable returns how far the log may be read, and whether it grows no more.
func (s *Spool) readable() (durable int64, changed <-chan struct{}, finished bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.durable, s.changed, s.finished
}

// freed says that the segment that begins at a place is not part of the log any more.
func (s *Spool) freed(first int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.segments) == 0 || s.segments[0].first > first
}

// segmentAt returns the segment that a place below durable lies in.
func (s *Spool) segmentAt(place int64) segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n+1 < len(s.segments) && s.segments[n+1].first <= place {
		n++
	}
	return s.segments[n]
}

// found tells of damage that a reader came across, once for all readers.
func (s *Spool) found(first int64, d stretch, cause error) {
	s.mu.Lock()
	for i := range s.segments {
		g := &s.segments[i]
		if g.first != first {
			continue
		}
		if g.damages[d.from] {
			break
		}
		if g.damages == nil {
			g.damages = make(map[int64]bool)
		}
		g.damages[d.from] = true
		told := *g
		s.mu.Unlock()
		s.damage(&told, d, cause)
		return
	}
	s.mu.Unlock()
}

// unreadable keeps why the log can't be read; nil: it is tried again.
func (s *Spool) unreadable(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.reading = ""
		return
	}
	if s.reading == "" {
		s.log.Error("nothing of the spool is delivered, it is tried again", "dir", s.config.Dir, "error", err)
	}
	s.reading = err.Error()
}

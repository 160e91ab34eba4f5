package file

import "time"

// Files in which nothing happens and of which an event would tell are looked at
// nevertheless, each in its turn: what writes without an event, as a program does that
// has mapped the file, is seen then.
const (
	// allLooks is how many files are few enough that each poll looks at all.
	allLooks = 1024
	// someLooks is how many of more files a poll looks at, if all of them had their turn
	// after mostRounds polls.
	someLooks  = 256
	mostRounds = 100
)

// roundsOf is after how many polls each of so many quiet files was looked at.
func roundsOf(files int) int {
	if files <= allLooks {
		return 1
	}
	return min(files/someLooks+1, max(mostRounds, files/allLooks+1))
}

// lookAround looks at the files that are followed, and at those at rest.
func (d *discoverer) lookAround(now time.Time) {
	d.round++
	rounds := roundsOf(len(d.tracked) + len(d.asleep))
	for in, f := range d.tracked {
		if !d.full && !f.nameless && (f.slot+d.round)%rounds != 0 && d.isQuiet(f, now) || d.follows(in) == nil {
			continue
		}
		d.look(f, now)
		if f.rotated {
			d.finish(f, now)
		}
		if f.nameless {
			d.release(f, now)
		}
	}
	d.lookAtRest(rounds, now)
	d.full = false
}

// isQuiet reports that nothing is to be done about the file, that an event would tell of a
// change, and that events told of all its changes for long. The kernel queues the event
// of a write behind the write, so a look for an event sees all of it, and what comes
// after the look has an event of its own.
func (d *discoverer) isQuiet(f *file, now time.Time) bool {
	return now.Sub(f.untold) >= quietTime && f.seen.links == 1 && !f.rotated && f.isRead() && d.hints.vouch(&f.watch, f.real, now)
}

// isRead reports that nothing is left to read.
func (f *file) isRead() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cursor == f.size && !f.truncated && f.last == nil
}

// lookAtRest looks at files at rest: all those that no event would tell of, and of the
// others one in so many rounds.
func (d *discoverer) lookAtRest(rounds int, now time.Time) {
	var stirred []*resting
	for _, r := range d.asleep {
		if !d.full && (r.slot+d.round)%rounds != 0 && r.look.links == 1 && d.hints.vouch(&r.watch, r.real, now) {
			continue
		}
		if d.isDue(r, now) || r.differs() {
			stirred = append(stirred, r)
		}
	}
	for i, r := range stirred {
		stirred[i] = d.waiter(r, &r.candidate)
	}
	d.enqueue(stirred)
}

package pluginhost

import "slices"

// A record that breaks the plugin is found by halving: the batch that was at
// work when a process broke, twice, comes again in two pieces, of which one
// breaks the next process and is halved in turn. As long as pieces are in
// question, one lane at a time has one piece at the plugin (a cautious
// instance), so that nobody else's records are blamed. A batch of n records
// needs at most log2 n processes more, and one more where several lanes were
// at work at first.

// codeCrash is the code of a record that breaks the plugin.
const codeCrash = "plugin.crash"

// crashesInQuestion is how often a process must break over a batch before the batch is halved.
const crashesInQuestion = 2

// verdict is what the lanes of an instance made of its end.
type verdict struct {
	searching bool   // pieces are in question
	explained int    // records that were found to be at fault
	hopeless  string // why the record at fault can't be put aside; "": it can, or none is known
}

// takeVerdict returns what lanes found, and forgets it.
func (v *supervisor) takeVerdict() verdict {
	v.mu.Lock()
	defer v.mu.Unlock()
	found := v.verdict
	found.searching = v.suspects > 0
	v.verdict = verdict{}
	return found
}

// question counts the lanes that have pieces in question. Without any, lanes
// use the process together again.
func (v *supervisor) question(lanes int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.suspects += lanes
	if v.suspects == 0 && v.current != nil {
		v.current.cautious.Store(false)
	}
}

// conclude draws the conclusion of a process's end, once its report is there.
// Replies may have been lost with the process, so each piece that it had is
// counted, but only the oldest can be in question. From the second time on a
// lane sends such pieces one by one, so the oldest is the one.
func (l *lane) conclude(i *instance) {
	atWork := l.atWork
	l.atWork = nil
	if len(atWork) == 0 || i.debug != nil || (i.failure.reason == reasonReply && i.culprit != l) {
		return
	}
	for _, p := range atWork[1:] {
		p.crashes = max(p.crashes, 1)
	}
	p := atWork[0]
	p.crashes++
	at := slices.Index(l.pending, p)
	switch {
	case p.crashes < crashesInQuestion || at < 0:
	case len(p.rows) > 1:
		first := l.halve(at)
		first.crashes, first.suspect = crashesInQuestion-1, true
		p.crashes, p.suspect = crashesInQuestion-1, true
	case !l.alone:
		p.suspect = true
	default:
		l.condemn(p, i.report)
	}
	l.recount()
}

// condemn does with the one record that breaks the plugin what on_error says.
func (l *lane) condemn(p *piece, report string) {
	v := l.supervisor
	hopeless := ""
	if l.stage.spec.OnError == Block {
		hopeless = "a record breaks the plugin (on_error = \"block\")"
	} else if v.streak.Add(1) > mostInARow {
		hopeless = "the plugin breaks over every record that it gets"
	}
	v.mu.Lock()
	if hopeless != "" {
		v.verdict.hopeless = hopeless
	} else {
		v.verdict.explained++
	}
	v.mu.Unlock()
	if hopeless != "" {
		return
	}
	l.stage.logger.Error("a record breaks the plugin and goes by on_error", "lane", l.number, "on_error", string(l.stage.spec.OnError))
	l.stage.reject(p.batch, p.rows, codeCrash, report)
	p.rows = nil
}

// halve puts a piece of the first half of the rows before the n-th pending piece, which keeps the rest.
func (l *lane) halve(n int) *piece {
	p := l.pending[n]
	// Rows may be the batch's own list of live rows, which replies change.
	rows := slices.Clone(p.rows)
	half := len(rows) / 2
	first := &piece{batch: p.batch, rows: rows[:half:half], counts: p.counts, sends: p.sends, crashes: p.crashes, suspect: p.suspect}
	p.rows = rows[half:]
	l.pending = slices.Insert(l.pending, n, first)
	return first
}

// recount tells the supervisor whether pieces of this lane are in question.
func (l *lane) recount() {
	now := slices.ContainsFunc(l.pending, func(p *piece) bool { return p.suspect && len(p.rows) > 0 })
	if now == l.questioned {
		return
	}
	l.questioned = now
	if now {
		l.supervisor.question(1)
		return
	}
	l.supervisor.question(-1)
}

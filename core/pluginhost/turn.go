package pluginhost

// What a session does where lanes take turns, and where it leaves.

// room is how many frames the session may have at the plugin.
func (x *session) room() int {
	switch {
	case x.leaving:
		return 0
	case !x.instance.cautious.Load() && x.pending[0].crashes > 0:
		return 1
	case !x.instance.cautious.Load():
		return window
	case x.hasTurn:
		return 1
	default:
		return 0
	}
}

// turnstile takes the turn of a cautious instance, where there is something to send.
func (x *session) turnstile() chan<- struct{} {
	if x.hasTurn || x.leaving || x.posted >= len(x.pending) || !x.instance.cautious.Load() {
		return nil
	}
	return x.instance.turn
}

// passTurn gives the turn back once what it was taken for is answered.
func (x *session) passTurn() {
	if x.hasTurn && len(x.expected) == 0 && (x.usedTurn || !x.instance.cautious.Load()) {
		x.hasTurn, x.usedTurn = false, false
		<-x.instance.turn
	}
}

// retirement is closed once the instance retires; nil when the session knows.
func (x *session) retirement() <-chan struct{} {
	if x.leaving {
		return nil
	}
	return x.instance.retiring
}

// countSender tells the instance, once, that this stream carries records.
func (x *session) countSender() {
	if !x.sender {
		x.sender = true
		x.instance.senders.Add(1)
	}
}

// markAllSent notes every frame that the sender is done with.
func (x *session) markAllSent() {
	for {
		select {
		case <-x.sent:
			x.markSent()
		default:
			return
		}
	}
}

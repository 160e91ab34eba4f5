package socket

import (
	"net"
	"testing"
	"time"
)

// A TLS peer may ask for answers (KeyUpdate) and not read them: that must not hold a
// connection, with the buffer it has on loan, for ever.
func TestAPeerThatReadsNoAnswersHoldsNobody(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dial(t, listener.Addr()) // and never reads
	socket, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	w, err := newWire(socket)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		answer := make([]byte, 64<<10)
		for {
			if _, err := w.Write(answer); err != nil {
				ended <- err
				return
			}
		}
	}()
	select {
	case err := <-ended:
		if !isTimeout(err) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the write waits")
		socket.Close()
		<-ended
	}
}

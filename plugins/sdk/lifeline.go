package sdk

import (
	"fmt"
	"io"
	"os"
	"strconv"
)

// watchLifeline ends the process when the agent's end of the pipe closes. number
// is the file descriptor of this end; empty: the agent gave none.
func (p *process) watchLifeline(number string) error {
	if number == "" {
		return nil
	}
	fd, err := strconv.ParseUint(number, 10, 16)
	if err != nil || fd < 3 {
		return fmt.Errorf("the agent's lifeline is no file descriptor: %q", number)
	}
	lifeline := os.NewFile(uintptr(fd), "lifeline")
	if _, err := lifeline.Stat(); err != nil {
		return fmt.Errorf("the agent's lifeline: %w", err)
	}
	closeOnExec(uintptr(fd))
	go func() {
		_, _ = io.Copy(io.Discard, lifeline) // any error says the same as the end of file
		p.endOrphaned()
	}()
	return nil
}

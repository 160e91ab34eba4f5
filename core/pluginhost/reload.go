package pluginhost

import (
	"context"
	"errors"
	"fmt"
)

// swap hands a supervisor the process that takes over.
type swap struct {
	to   *instance
	done chan error // has room for the one answer
}

// errStopping says that there is nothing left to reload.
var errStopping = errors.New("the stage is stopping")

// Reload replaces the stage's processes by new ones of the plugin's file as it
// is now. Each lane moves over between two batches: what it has given to the old
// process is answered there before the new one gets anything of it. Where a
// new process does not start or takes no configuration, the old ones stay and
// the error, an [*Error], says why. It returns once the old processes have
// ended; calls wait for each other.
func (s *Stage) Reload(ctx context.Context) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	if s.closed {
		return errStopping
	}
	if s.spec.Attach != "" {
		return fmt.Errorf("plugin %q is attached: restart it by hand, the stage finds it again", s.spec.Plugin)
	}
	next, err := s.bringUpAll(ctx)
	if err != nil {
		return err
	}
	if next[0].description.WantsTopology && !s.describedAs().GetWantsTopology() {
		err = next[0].exe.errorf(Unavailable, "restart the agent", "this version wants partition counts, which batches on their way lack")
	}
	if next[0].description.WantsAcknowledgements && !s.WantsAcknowledgements() {
		err = next[0].exe.errorf(Unavailable, "restart the agent", "this version wants acknowledgements, which nobody collects for it yet")
	}
	for n, v := range s.supervisors {
		if err == nil {
			err = v.takeOver(ctx, next[n])
			continue
		}
		next[n].discard()
	}
	return err
}

// takeOver gives an instance to the supervisor and waits until the one before has ended.
func (v *supervisor) takeOver(ctx context.Context, next *instance) error {
	handed := &swap{to: next, done: make(chan error, 1)}
	select {
	case v.swaps <- handed:
	case <-v.ended:
		next.discard()
		return errStopping
	case <-ctx.Done():
		next.discard()
		return fmt.Errorf("wait for the process that runs: %w", ctx.Err())
	}
	v.stage.metrics.restarts(reasonReload).Inc()
	select {
	case err := <-handed.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the new process has taken over; wait for the end of the old one: %w", ctx.Err())
	}
}

// retire ends an instance that another one has replaced, once its lanes have
// left it. One that breaks before is buried like any other.
func (v *supervisor) retire(ctx context.Context, old *instance) {
	close(old.retiring)
	left := make(chan struct{})
	go func() {
		defer close(left)
		old.users.Wait()
	}()
	select {
	case <-left:
		old.shutdown(context.WithoutCancel(ctx))
		v.logger.Info("the plugin was reloaded", "version", v.stage.describedAs().GetVersion(), "pid", v.snapshot().PID, "old", old.description.Version)
		return
	case <-old.exited():
		old.fail(reasonExit, old.exit(), nil)
	case <-old.broken:
	}
	old.inter()
	<-left
	v.takeVerdict()
}

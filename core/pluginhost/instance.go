package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

const (
	startTimeout     = 10 * time.Second // from the process's start to its handshake
	configureTimeout = 10 * time.Second
	closeTimeout     = 5 * time.Second        // for the plugin's Close
	killWatchdog     = 5 * time.Second        // for go-plugin's Kill, which has no bound of its own
	dumpTime         = 500 * time.Millisecond // for a hung process to print its stacks
)

// instance is one process of a stage, from its start to its end. go-plugin's
// client can't be started twice, so there is one of both per attempt.
type instance struct {
	exe     *executable // closed by the owner of the instance; used for messages only
	run     *run
	output  *output
	logger  *slog.Logger
	client  *plugin.Client
	debug   *attachment         // in place of run and client: a plugin that the host did not start
	control wirev1.PluginClient // on go-plugin's connection; records have their own
	address string              // of the plugin's socket

	description   *wirev1.Description
	reads, writes wire.ColumnSet // as configured
	configured    time.Time

	busyLanes atomic.Int32 // lanes that wait for a reply
	lastReply atomic.Int64 // when any lane last got one, in nanoseconds since configured

	broken  chan struct{} // closed by fail: no lane may use the instance any more
	failing sync.Once
	failure breakage // set before broken is closed
	culprit *lane    // likewise: the lane that called fail

	users    sync.WaitGroup // lanes that hold the instance, see supervisor.acquire
	retiring chan struct{}  // closed by its supervisor: lanes leave once nothing of theirs is unanswered
	buried   chan struct{}  // closed by its supervisor once a broken process has ended and report is set
	report   string         // why it broke and what it printed last; set before buried is closed
	answered atomic.Bool    // whether a batch with records has been answered

	// Where a record has to be found that breaks processes, one lane at a time
	// has one batch at the plugin.
	cautious atomic.Bool   // set before the first lane gets the instance; cleared once nothing is suspected
	turn     chan struct{} // holds a value while a lane has its turn
	senders  atomic.Int32  // streams on which records were sent

	topologyMu sync.Mutex
	topology   map[string]int32 // guarded by topologyMu: what the process has been told
}

// newInstance returns an instance without a process.
func newInstance(exe *executable, logger *slog.Logger) *instance {
	return &instance{
		exe: exe, logger: logger, topology: map[string]int32{},
		broken: make(chan struct{}), retiring: make(chan struct{}), buried: make(chan struct{}), turn: make(chan struct{}, 1),
	}
}

// breakage says why an instance can't be used any more.
type breakage struct {
	reason string // label of the metric of restarts
	detail string
}

// String is the reason and the detail on one line.
func (b breakage) String() string { return b.reason + ": " + b.detail }

// launch starts a process of the file and connects to it. It is not configured
// yet. Whoever gets the instance ends it with shutdown or discard.
func (h *Host) launch(ctx context.Context, spec *Spec, exe *executable, logger *slog.Logger) (*instance, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := newOutput(logger)
	i := newInstance(exe, logger)
	i.run, i.output = newRun(h.starter, exe, spec, out), out
	i.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  wire.Handshake(),
		VersionedPlugins: map[int]plugin.PluginSet{wire.ProtocolVersion: {wire.PluginName: controlPlugin{}}},
		RunnerFunc:       i.run.prepare,
		SkipHostEnv:      true,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		StartTimeout:     startTimeout,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: h.dir},
		SyncStdout:       &lineSplitter{line: out.log},
		SyncStderr:       &lineSplitter{line: out.log},
		Logger:           hclog.NewNullLogger(), // what go-plugin would log, the host says itself
		GRPCDialOptions:  i.dialOptions(h.transport),
	})
	if spec.MemoryMax > 0 {
		logger.Info("memory_max is in force", "bytes", spec.MemoryMax, "by", h.starter.mechanism())
	}
	// Whatever go-plugin waits for, it ends with the process.
	stop := context.AfterFunc(ctx, func() { i.run.kill() })
	began := time.Now()
	err := i.connect()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		killed := i.killedByOthers(ctx, time.Since(began) < startTimeout && i.run.handshake() == "")
		i.discard()
		err = i.explain(err)
		var failed *Error
		if errors.As(err, &failed) {
			failed.killed = killed
		}
		return nil, err
	}
	return i, nil
}

// connect does the handshake and opens go-plugin's connection.
func (i *instance) connect() error {
	address, err := i.client.Start()
	if err != nil {
		return err
	}
	i.address = address.String()
	protocol, err := i.client.Client()
	if err != nil {
		return err
	}
	raw, err := protocol.Dispense(wire.PluginName)
	if err != nil {
		return err
	}
	control, ok := raw.(wirev1.PluginClient)
	if !ok {
		return fmt.Errorf("BUG: go-plugin dispensed a %T", raw)
	}
	i.control = control
	return nil
}

// explain turns go-plugin's error into one that says what to do. The instance has been discarded.
func (i *instance) explain(err error) error {
	if started := i.run.failure(); started != nil {
		return started
	}
	line := i.run.handshake()
	var failed *Error
	switch fields := strings.Split(line, "|"); {
	case line == "" && i.run.endedByItself():
		failed = i.exe.errorf(NotPlugin, "check that it is a plugin of this agent, and run it by hand to see why it ends",
			"it ended before its handshake (%s)", i.run.started.Load().status())
	case line == "":
		failed = i.exe.errorf(StartTimeout, "check that it is a plugin of this agent, and what it waits for before it serves",
			"it did not get ready in time")
	case len(fields) < 5 || fields[0] != strconv.Itoa(plugin.CoreProtocolVersion):
		failed = i.exe.errorf(NotPlugin, "check that it is a plugin of this agent, and that it prints nothing on stdout before it serves",
			"it printed %q in place of the handshake", sanitize(line, 200))
	case fields[1] != strconv.Itoa(wire.ProtocolVersion):
		failed = i.exe.errorf(ProtocolVersion, "install a version of the plugin that is built for this agent",
			"it speaks version %s of the plugin protocol, the agent speaks %d", sanitize(fields[1], 20), wire.ProtocolVersion)
	default:
		failed = i.exe.errorf(Failed, "check that it is a plugin of this agent", "it can't be connected to").because(err)
	}
	failed.Output = i.output.last(outputShown)
	return failed
}

// configure hands the stage's configuration over, only to be checked or for real.
func (i *instance) configure(ctx context.Context, h *Host, spec *Spec, validateOnly bool) error {
	if i.debug == nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, configureTimeout)
		defer cancel()
	}
	role := wirev1.Role_ROLE_VALUE
	if spec.Kind == KeySerializer {
		role = wirev1.Role_ROLE_KEY
	}
	reply, err := i.control.Configure(ctx, &wirev1.ConfigureRequest{
		ValidateOnly: validateOnly, Config: string(spec.Config), Pipeline: spec.Pipeline, Stage: spec.Stage,
		Role: role, Host: h.options.Hostname,
	})
	if err != nil {
		failed := i.exe.errorf(Failed, "report it to the plugin's author", "it broke while it was configured").because(err)
		failed.killed = i.killedByOthers(ctx, false)
		failed.Output = i.output.last(outputShown)
		return failed
	}
	if len(reply.Errors) > 0 {
		return configRefused(i.exe, reply.Errors)
	}
	i.reads, i.writes = columns(i.description.Reads, reply.Reads), columns(i.description.Writes, reply.Writes)
	i.restrict(spec.Kind, reply.Reads != nil)
	i.configured = time.Now()
	return nil
}

// restrict holds a stage to what its kind may do: a serializer replaces its own
// payload and never the other one, a partitioner chooses partitions. A serializer
// reads its payload unless it has answered exactly what its configuration reads.
func (i *instance) restrict(kind Kind, exact bool) {
	const payloads = wire.ColumnValue | wire.ColumnKey
	var payload wire.ColumnSet
	switch kind {
	case KeySerializer:
		payload = wire.ColumnKey
	case ValueSerializer:
		payload = wire.ColumnValue
	case Partitioner:
		i.writes = wire.ColumnPartition
		return
	default:
		return
	}
	i.writes = i.writes&^payloads | payload
	if !exact {
		i.reads |= payload
	}
}

// columns is what a configuration leaves of the described columns.
func columns(described, configured *wirev1.ColumnSet) wire.ColumnSet {
	if configured == nil {
		return wire.ColumnsOf(described)
	}
	return wire.ColumnsOf(described) & wire.ColumnsOf(configured)
}

// configHint says where to read what a plugin takes.
const configHint = "`barnabas plugin describe` shows the configuration that it takes"

// maxConfigErrors bounds what a plugin can say against its configuration.
const maxConfigErrors = 64

// configRefused makes an error of what the plugin says against its configuration.
func configRefused(exe *executable, said []*wirev1.ConfigError) *Error {
	failed := exe.errorf(ConfigRefused, configHint, "its configuration does not fit")
	for _, e := range said[:min(len(said), maxConfigErrors)] {
		failed.Config = append(failed.Config, ConfigError{Pointer: sanitize(e.Pointer, 256), Message: sanitize(e.Message, 1024)})
	}
	return failed
}

// fail makes the instance unusable. Only the first reason counts; by is the lane
// that found it, nil: the supervisor did.
func (i *instance) fail(reason, detail string, by *lane) {
	i.failing.Do(func() {
		i.culprit = by
		i.failure = breakage{reason: reason, detail: sanitize(detail, maxProblem)}
		close(i.broken)
	})
}

// isBroken reports whether fail has been called.
func (i *instance) isBroken() bool {
	select {
	case <-i.broken:
		return true
	default:
		return false
	}
}

// dump asks a hung process for its stacks, which Go prints on SIGQUIT. A stopped
// process has to go on for it.
func (i *instance) dump() {
	p := i.run.started.Load()
	p.signal(unix.SIGQUIT)
	p.signal(unix.SIGCONT)
	timer := time.NewTimer(dumpTime)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
	}
}

// pid is the process id; 0: not known yet.
func (i *instance) pid() int {
	if i.debug != nil {
		return int(i.debug.peer.Load())
	}
	return i.run.pid()
}

// exited is closed once the process has ended; of an attached one the host never learns.
func (i *instance) exited() <-chan struct{} {
	if i.debug != nil {
		return nil
	}
	return i.run.started.Load().exited
}

// exit says how the process ended; only after exited is closed.
func (i *instance) exit() string { return i.run.started.Load().status() }

// shutdown ends a healthy instance: Close, then go-plugin's shutdown, then by force.
func (i *instance) shutdown(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	if _, err := i.control.Close(ctx, &wirev1.Empty{}); err != nil {
		i.logger.Warn("the plugin did not close cleanly", "error", err)
	}
	i.end(ctx)
}

// discard ends an instance at once.
func (i *instance) discard() {
	if i.debug != nil {
		i.debug.leave()
		return
	}
	i.run.kill()
	i.end(context.Background())
}

// end joins go-plugin's client under a watchdog and frees what the instance holds.
func (i *instance) end(ctx context.Context) {
	if i.debug != nil {
		i.debug.leave()
		return
	}
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		i.client.Kill()
	}()
	watchdog := time.NewTimer(killWatchdog)
	defer watchdog.Stop()
	select {
	case <-killed:
	case <-ctx.Done():
	case <-watchdog.C:
	}
	i.run.kill()
	<-killed
	if err := i.run.finish(); err != nil {
		i.logger.Warn("can't remove the plugin's socket directory", "error", err)
	}
}

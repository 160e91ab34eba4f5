package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/barnabas-agent/barnabas/test/process"
)

const (
	readyTimeout = 90 * time.Second // for a broker to serve; 4 to 15 s on two idle cores
	stopTimeout  = 30 * time.Second // for a broker to end cleanly
	logLines     = 40               // of a broker's log, in an error
)

// Options says what cluster is wanted.
type Options struct {
	Brokers    int               // 1 or 3; 0 means 1
	Properties map[string]string // more lines for the server.properties of each broker; they win over the harness's own
}

// Cluster is a running Kafka cluster whose brokers, each a broker and a
// controller, are numbered from 1 like their node.id. With three brokers topics
// have three replicas and need two in sync. Methods that change one broker must
// not be called concurrently for the same broker.
type Cluster struct {
	folder  string    // owned
	brokers []*server // owned
}

// server is one broker, running or not, with its data.
type server struct {
	id           int
	address      address
	folder       string // within the cluster's
	installation *Installation
	options      []string         // more options for the JVM
	process      *process.Process // of its latest start, owned
	journal      *journal         // of its latest start
}

// Launch starts an empty cluster and returns when all its brokers serve. The
// caller has to Close it; its processes also end when the calling process dies.
func Launch(ctx context.Context, installation *Installation, options Options) (*Cluster, error) {
	var archive []string
	if info, err := os.Stat(installation.archive()); err == nil && info.Size() > 0 {
		archive = []string{"-XX:SharedArchiveFile=" + installation.archive(), "-Xlog:cds=off", "-Xlog:cds+dynamic=off"}
	}
	return launch(ctx, installation, options, archive...)
}

func launch(ctx context.Context, installation *Installation, options Options, jvm ...string) (*Cluster, error) {
	n := max(options.Brokers, 1)
	if n != 1 && n != 3 {
		return nil, fmt.Errorf("a cluster has 1 or 3 brokers, not %d", n)
	}
	folder, err := os.MkdirTemp("", "barnabas-kafka-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for Kafka's data: %w", err)
	}
	c := &Cluster{folder: folder}
	addresses, err := freeAddresses(n)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	for id := 1; id <= n; id++ {
		c.brokers = append(c.brokers, &server{
			id: id, address: addresses[id-1], folder: filepath.Join(folder, strconv.Itoa(id)),
			installation: installation, options: jvm,
		})
	}
	if err := c.begin(ctx, addresses, options.Properties); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// begin formats, starts and awaits all brokers.
func (c *Cluster) begin(ctx context.Context, addresses []address, extra map[string]string) error {
	formats, formatting := errgroup.WithContext(ctx)
	for _, s := range c.brokers {
		formats.Go(func() error { return s.format(formatting, addresses, extra) })
	}
	if err := formats.Wait(); err != nil {
		return err
	}
	for _, s := range c.brokers {
		if err := s.start(); err != nil {
			return err
		}
	}
	for _, s := range c.brokers {
		if err := s.awaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Brokers is the number of brokers, running or not.
func (c *Cluster) Brokers() int { return len(c.brokers) }

// Bootstrap is the bootstrap.servers of the cluster, the addresses of all its brokers.
func (c *Cluster) Bootstrap() string {
	addresses := make([]string, len(c.brokers))
	for i, s := range c.brokers {
		addresses[i] = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.address.client))
	}
	return strings.Join(addresses, ",")
}

// Pid is the process id of the broker's latest start.
func (c *Cluster) Pid(id int) (int, error) {
	s, err := c.find(id)
	if err != nil {
		return 0, err
	}
	return s.process.Pid(), nil
}

// Kill ends the broker with SIGKILL and returns when it is gone.
func (c *Cluster) Kill(id int) error {
	s, err := c.find(id)
	if err != nil {
		return err
	}
	s.process.Kill()
	return nil
}

// Stop ends the broker cleanly and returns when it is gone.
func (c *Cluster) Stop(id int) error {
	s, err := c.find(id)
	if err != nil {
		return err
	}
	return s.process.Stop(stopTimeout)
}

// Restart starts the broker again on its data, after stopping it if it runs, and
// returns when it serves.
func (c *Cluster) Restart(ctx context.Context, id int) error {
	s, err := c.find(id)
	if err != nil {
		return err
	}
	if err := s.process.Stop(stopTimeout); err != nil {
		return err
	}
	if err := s.start(); err != nil {
		return err
	}
	return s.awaitReady(ctx)
}

// Pause stops the broker with SIGSTOP: its connections stay, and nothing answers.
func (c *Cluster) Pause(id int) error { return c.signal(id, syscall.SIGSTOP) }

// Resume lets a paused broker go on.
func (c *Cluster) Resume(id int) error { return c.signal(id, syscall.SIGCONT) }

func (c *Cluster) signal(id int, signal syscall.Signal) error {
	s, err := c.find(id)
	if err != nil {
		return err
	}
	return s.process.Signal(signal)
}

// Logs returns the end of what each broker has logged since its latest start.
func (c *Cluster) Logs() string {
	var text strings.Builder
	for _, s := range c.brokers {
		if s.journal != nil {
			fmt.Fprintf(&text, "--- broker %d\n%s\n", s.id, s.journal.lastLines(logLines))
		}
	}
	return text.String()
}

// Close kills all brokers and removes their data. It may be called again.
func (c *Cluster) Close() error {
	for _, s := range c.brokers {
		if s.process != nil {
			s.process.Kill()
		}
	}
	if err := os.RemoveAll(c.folder); err != nil {
		return fmt.Errorf("remove Kafka's data: %w", err)
	}
	return nil
}

func (c *Cluster) find(id int) (*server, error) {
	if id < 1 || id > len(c.brokers) {
		return nil, fmt.Errorf("no broker %d: there are 1 to %d", id, len(c.brokers))
	}
	return c.brokers[id-1], nil
}

func (s *server) configuration() string { return filepath.Join(s.folder, "server.properties") }

// temporary is where the JVM unpacks native libraries, which stay when it is killed.
func (s *server) temporary() string { return filepath.Join(s.folder, "tmp") }

// format writes the broker's configuration and prepares its data folder.
func (s *server) format(ctx context.Context, addresses []address, extra map[string]string) error {
	if err := os.MkdirAll(s.temporary(), 0o700); err != nil {
		return fmt.Errorf("make the folder of broker %d: %w", s.id, err)
	}
	text := properties(s.id, addresses, filepath.Join(s.folder, "data"), extra)
	if err := os.WriteFile(s.configuration(), []byte(text), 0o600); err != nil {
		return fmt.Errorf("configure broker %d: %w", s.id, err)
	}
	tool := s.installation.Tool(ctx, "kafka.tools.StorageTool", "format", "-t", clusterID, "-c", s.configuration())
	if output, err := tool.CombinedOutput(); err != nil {
		return fmt.Errorf("format the data of broker %d: %w\n%s", s.id, err, output)
	}
	return nil
}

// start starts the broker and does not wait for it to serve.
func (s *server) start() error {
	arguments := append([]string{}, s.options...)
	arguments = append(arguments,
		"-Djava.io.tmpdir="+s.temporary(), "-Xms512m", "-Xmx512m", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:+ExitOnOutOfMemoryError",
		"-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
		"-cp", s.installation.classPath(), "kafka.Kafka", s.configuration())
	command := exec.Command(s.installation.java, arguments...)
	s.journal = newJournal()
	command.Stdout, command.Stderr = s.journal, s.journal
	started, err := process.Start(command)
	if err != nil {
		return fmt.Errorf("broker %d: %w", s.id, err)
	}
	s.process = started
	return nil
}

// awaitReady returns when the broker serves, has ended, or takes too long.
func (s *server) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	select {
	case <-s.journal.ready:
		return nil
	case <-s.process.Ended():
		return fmt.Errorf("broker %d ended at its start:\n%s", s.id, s.journal.lastLines(logLines))
	case <-ctx.Done():
		return fmt.Errorf("broker %d does not serve: %w\n%s", s.id, ctx.Err(), s.journal.lastLines(logLines))
	}
}

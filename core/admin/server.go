package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"
)

// Limits of both servers. A scrape or a page takes milliseconds; what lasts
// longer is a client that is stuck or hostile.
const (
	maxConnections = 64
	maxHeader      = 16 << 10
	headerTimeout  = 5 * time.Second
	requestTimeout = 30 * time.Second
	idleTimeout    = time.Minute
	closeTimeout   = 2 * time.Second // for answers under way when the server ends
)

// Config is what a server serves, and where. The functions are called for each
// request, concurrently, and must not wait for the data path.
type Config struct {
	DataDir    string // holds the admin socket and the quarantine
	HTTPListen string // host:port; empty: no HTTP server

	Metrics http.Handler
	Status  func() Status
	Ready   func() []string // why the agent is not ready; none: it is
	Healthy func() error    // nil while the agent makes progress or has nothing to do

	// Files returns the files that the sources know, ExplainFile what each of them
	// says of an absolute path. Nil: there are none. Only the admin socket serves them.
	Files       func() []TrackedFile
	ExplainFile func(path string) []FileExplanation

	// ReloadPlugins replaces the plugins of the stage "PIPELINE/STAGE", or of
	// all; [ErrNoStage] where there is none. It may take minutes. Nil: there is
	// nothing to reload. Only the admin socket serves it.
	ReloadPlugins func(ctx context.Context, stage string) ([]Reload, error)
}

// Server is the HTTP server and the admin socket of an agent.
type Server struct {
	config Config
	log    *slog.Logger
	socket net.Listener // owned
	http   net.Listener // owned; nil: no HTTP server
}

// Listen opens the admin socket and the HTTP address. It starts nothing: Run
// serves, and either Run or Close must follow.
func Listen(ctx context.Context, c Config, log *slog.Logger) (*Server, error) {
	s := &Server{config: c, log: log}
	var err error
	if s.socket, err = listenSocket(ctx, c.DataDir); err != nil {
		return nil, err
	}
	if c.HTTPListen == "" {
		return s, nil
	}
	var config net.ListenConfig
	if s.http, err = config.Listen(ctx, "tcp", c.HTTPListen); err != nil {
		return nil, errors.Join(
			fmt.Errorf("http_listen = %q (\"\" turns it off): %w", c.HTTPListen, err), s.socket.Close())
	}
	return s, nil
}

// HTTPAddress is where the HTTP server listens; empty: nowhere.
func (s *Server) HTTPAddress() string {
	if s.http == nil {
		return ""
	}
	return s.http.Addr().String()
}

// Close gives the sockets up where Run was never called.
func (s *Server) Close() error {
	err := s.socket.Close()
	if s.http != nil {
		err = errors.Join(err, s.http.Close())
	}
	return err
}

// Run serves until ctx ends, lets answers under way finish for two seconds, and
// removes the socket.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	s.serve(ctx, group, s.socket, s.socketHandler())
	if s.http != nil {
		s.serve(ctx, group, s.http, s.httpHandler())
	}
	return group.Wait()
}

func (s *Server) serve(ctx context.Context, group *errgroup.Group, listener net.Listener, handler http.Handler) {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	group.Go(func() error {
		err := server.Serve(netutil.LimitListener(listener, maxConnections))
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	})
	group.Go(func() error {
		<-ctx.Done()
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		if server.Shutdown(closing) != nil {
			return server.Close() // whoever still reads is cut off
		}
		return nil
	})
}

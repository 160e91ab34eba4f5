package admin

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
)

// httpHandler serves whoever reaches http_listen.
func (s *Server) httpHandler() http.Handler {
	host, _, err := net.SplitHostPort(s.config.HTTPListen)
	if err != nil {
		host = "" // Listen has succeeded, so this can't be
	}
	return s.checkHost(host, readOnly(s.common()))
}

// socketHandler serves the agent's own user alone: what the HTTP server has,
// and records with their content.
func (s *Server) socketHandler() http.Handler {
	mux := s.common()
	mux.HandleFunc("/api/v1/quarantine/{pipeline}", s.listQuarantine)
	mux.HandleFunc("/api/v1/quarantine/{pipeline}/{id}", s.showQuarantine)
	mux.HandleFunc("/api/v1/quarantine", s.listPipelines)
	if s.config.Files != nil {
		mux.HandleFunc("/api/v1/files", s.listFiles)
		mux.HandleFunc("/api/v1/files/explain", s.explainFile)
	}
	all := http.NewServeMux()
	all.Handle("/", readOnly(mux))
	if s.config.ReloadPlugins != nil {
		all.HandleFunc("/api/v1/plugins/reload", s.reloadPlugins)
	}
	return all
}

func (s *Server) common() *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("/metrics", s.config.Metrics)
	mux.HandleFunc("/healthz", s.healthz)
	mux.HandleFunc("/readyz", s.readyz)
	mux.HandleFunc("/api/v1/status", func(w http.ResponseWriter, _ *http.Request) {
		s.answer(w, http.StatusOK, s.config.Status())
	})
	return mux
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	if err := s.config.Healthy(); err != nil {
		s.answer(w, http.StatusServiceUnavailable, Health{Reason: err.Error()})
		return
	}
	s.answer(w, http.StatusOK, Health{Healthy: true})
}

// Health is the document of /healthz.
type Health struct {
	Healthy bool   `json:"healthy"`
	Reason  string `json:"reason,omitempty"`
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	if reasons := s.config.Ready(); len(reasons) > 0 {
		s.answer(w, http.StatusServiceUnavailable, Readiness{Reasons: reasons})
		return
	}
	s.answer(w, http.StatusOK, Readiness{Ready: true})
}

// Readiness is the document of /readyz.
type Readiness struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons,omitempty"`
}

// answer writes one JSON document.
func (s *Server) answer(w http.ResponseWriter, code int, document any) {
	body, err := json.Marshal(document)
	if err != nil {
		s.log.Error("admin: a document can't be encoded", "error", err)
		http.Error(w, "the answer can't be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if _, err := w.Write(append(body, '\n')); err != nil {
		s.log.Debug("admin: a client went away", "error", err)
	}
}

// readOnly refuses every method that could change something, and tells
// browsers neither to keep nor to interpret an answer.
func readOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "read only", http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// checkHost keeps web pages from reading a loopback server under a name of
// their own (DNS rebinding). A server that listens beyond loopback is reached
// by names that it can't know, and by everyone, so there nothing is checked.
func (s *Server) checkHost(listen string, next http.Handler) http.Handler {
	address, ok := s.http.Addr().(*net.TCPAddr)
	if ok && !address.IP.IsLoopback() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !localHost(r.Host, listen) {
			http.Error(w, "unknown host name", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// localHost reports whether a Host header names this machine's loopback
// interface, by number or by a name that DNS can't give away (RFC 6761, 6.3).
// Clients that send none are no browsers.
func localHost(header, listen string) bool {
	host := header
	if h, _, err := net.SplitHostPort(header); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	return host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") || host == strings.ToLower(listen)
}

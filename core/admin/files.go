package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"time"
)

// TrackedFile is a file that a source knows: a document of `barnabas files list
// --json`. Its figures are bytes.
type TrackedFile struct {
	Pipeline  string `json:"pipeline"`
	Source    string `json:"source"`
	Path      string `json:"path"`
	Real      string `json:"real"`     // what Path resolves to
	Identity  string `json:"identity"` // device:inode:generation
	State     string `json:"state"`    // "reading", "delivering", "delivered", "at rest", "waiting", "ignored", "rotated", "deleted", "cut"
	Size      int64  `json:"size"`
	Read      int64  `json:"read"`
	Delivered int64  `json:"delivered"`
	Lag       int64  `json:"lag"`
}

// FileDecision is what a source decided about a file, and why.
type FileDecision struct {
	Time     time.Time `json:"time"`
	Path     string    `json:"path"` // under which the file was known then
	Identity string    `json:"identity,omitempty"`
	What     string    `json:"what"`
	Reason   string    `json:"reason"`
	Position int64     `json:"position"`
	Size     int64     `json:"size"`
	Lost     int64     `json:"bytes_lost_unread"`
}

// FileExplanation is what one source has to say of a path: a document of
// `barnabas files explain --json`.
type FileExplanation struct {
	Pipeline  string         `json:"pipeline"`
	Source    string         `json:"source"`
	Path      string         `json:"path"`
	Followed  bool           `json:"followed"`
	Why       string         `json:"why"` // the file that has the path now is read, or not
	Files     []TrackedFile  `json:"files,omitempty"`
	Decisions []FileDecision `json:"decisions,omitempty"` // the oldest first
}

// listFiles answers with a JSON document per line: there may be many.
func (s *Server) listFiles(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	encoder, connection := json.NewEncoder(w), http.NewResponseController(w)
	for n, file := range s.config.Files() {
		if n%1000 == 0 {
			if err := connection.SetWriteDeadline(time.Now().Add(requestTimeout)); err != nil {
				s.log.Debug("admin: a list can't be extended", "error", err)
				return
			}
		}
		if err := encoder.Encode(&file); err != nil {
			s.log.Debug("admin: a client went away", "error", err)
			return
		}
	}
}

func (s *Server) explainFile(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Query().Get("path")
	if !filepath.IsAbs(path) {
		http.Error(w, "the path must be absolute", http.StatusBadRequest)
		return
	}
	s.answer(w, http.StatusOK, s.config.ExplainFile(path))
}

// Files asks for all files that the agent's sources know.
func (c *Client) Files(ctx context.Context) ([]TrackedFile, error) {
	body, err := c.open(ctx, "files")
	if err != nil {
		return nil, err
	}
	defer body.Close() // read only: nothing to lose
	all := []TrackedFile{}
	for decoder := json.NewDecoder(body); ; {
		var file TrackedFile
		err := decoder.Decode(&file)
		switch {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("read the agent's answer: %w", err)
		}
		all = append(all, file)
	}
}

// ExplainFile asks each of the agent's file sources about an absolute path.
func (c *Client) ExplainFile(ctx context.Context, path string) ([]FileExplanation, error) {
	all := []FileExplanation{}
	return all, c.get(ctx, "files/explain?path="+url.QueryEscape(path), &all)
}

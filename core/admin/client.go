package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
)

// ErrNoAgent says that no agent runs on a data directory.
var ErrNoAgent = errors.New("no agent runs")

// Client talks to a running agent over its admin socket. It is safe for
// concurrent use.
type Client struct {
	path string
	http *http.Client // owned
}

// Dial finds the agent that runs on dataDir. Without one the error is
// ErrNoAgent and says what to do.
func Dial(ctx context.Context, dataDir string) (*Client, error) {
	path, err := socketPath(dataDir)
	if err != nil {
		return nil, err
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w on %s: start one with `barnabas run`, or name its folder with --data-dir", ErrNoAgent, dataDir)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("the agent's socket is for its own user: run this as that user or as root: %w", err)
	case err != nil:
		return nil, fmt.Errorf("connect to the agent: %w", err)
	}
	if err := conn.Close(); err != nil {
		return nil, fmt.Errorf("connect to the agent: %w", err)
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		},
	}
	return &Client{path: path, http: &http.Client{Transport: transport}}, nil
}

// Close ends the client's connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks the agent for its status.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var status Status
	return status, c.get(ctx, "status", &status)
}

// QuarantinedPipelines names the pipelines that have a quarantine.
func (c *Client) QuarantinedPipelines(ctx context.Context) ([]string, error) {
	var names []string
	return names, c.get(ctx, "quarantine", &names)
}

// QuarantinedRecord returns one record with its contents.
func (c *Client) QuarantinedRecord(ctx context.Context, pipeline string, id uint64) (QuarantinedRecord, error) {
	var record QuarantinedRecord
	path := "quarantine/" + url.PathEscape(pipeline) + "/" + strconv.FormatUint(id, 10)
	return record, c.get(ctx, path, &record)
}

// Quarantine lists the records of a pipeline, without their contents, in the
// order of their ids. An error is yielded for what can't be read; reading goes
// on unless the agent itself fails.
func (c *Client) Quarantine(ctx context.Context, pipeline string) iter.Seq2[QuarantinedRecord, error] {
	return func(yield func(QuarantinedRecord, error) bool) {
		body, err := c.open(ctx, "quarantine/"+url.PathEscape(pipeline))
		if err != nil {
			yield(QuarantinedRecord{}, err)
			return
		}
		defer body.Close() // read only: nothing to lose
		decoder := json.NewDecoder(body)
		for {
			var line quarantineLine
			err := decoder.Decode(&line)
			switch {
			case errors.Is(err, io.EOF):
				return
			case err != nil:
				yield(QuarantinedRecord{}, fmt.Errorf("read the agent's answer: %w", err))
				return
			case line.Record == nil:
				if !yield(QuarantinedRecord{}, errors.New(line.Error)) {
					return
				}
			case !yield(*line.Record, nil):
				return
			}
		}
	}
}

func (c *Client) get(ctx context.Context, path string, document any) error {
	body, err := c.open(ctx, path)
	if err != nil {
		return err
	}
	defer body.Close() // read only: nothing to lose
	if err := json.NewDecoder(body).Decode(document); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	return nil
}

// open returns the body of a successful answer, which the caller closes.
func (c *Client) open(ctx context.Context, path string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/api/v1/"+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the agent on %s: %w", c.path, err)
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	message, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	err = errors.Join(err, response.Body.Close())
	return nil, errors.Join(fmt.Errorf("the agent answers %s: %s", response.Status, strings.TrimSpace(string(message))), err)
}

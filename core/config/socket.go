package config

import (
	"fmt"
	"io/fs"
	"math"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// SocketSource takes records from a socket. What it accepts goes through a
// spool in the data directory.
type SocketSource struct {
	Listen         Listen
	Framing        Framing        // of a stream; a datagram is one record, without the framing's delimiter
	MaxFrame       int64          // bytes of a record
	MaxConnections int            // of a stream
	IdleTimeout    time.Duration  // of a connection; 0: none
	Allow          []netip.Prefix // peers; nil: all
	Mode           fs.FileMode    // of a unix socket
	Group          string         // of a unix socket; empty: the agent's own
	TLS            *SocketTLS     // nil: plaintext
	Spool          Spool
}

// Listen says where a socket source listens.
type Listen struct {
	Network Network
	Address string // host:port, an absolute path, or the name of a systemd socket
}

// String is the address as it is written in a configuration.
func (l Listen) String() string { return string(l.Network) + "://" + l.Address }

// Network is the kind of a socket.
type Network string

// The networks.
const (
	TCP      Network = "tcp"
	UDP      Network = "udp"
	Unix     Network = "unix"
	Unixgram Network = "unixgram"
	Systemd  Network = "systemd" // handed over by systemd, of any of the kinds above
)

// Framing says how a stream is cut into records.
type Framing string

// The framings.
const (
	FramingNewline       Framing = "newline"
	FramingOctetCounting Framing = "octet_counting" // RFC 6587, 3.4.1
	FramingSyslog        Framing = "syslog"         // either of RFC 6587, by a connection's first byte
	FramingNUL           Framing = "nul"
	FramingLengthPrefix  Framing = "length_prefix"
)

// SocketTLS secures a listening socket. All paths are absolute.
type SocketTLS struct {
	CertFile     string
	KeyFile      string
	ClientCAFile string // empty: clients need no certificate
	Places       Places `json:"-"` // where it is written
}

// Spool bounds what a source has accepted and not delivered.
type Spool struct {
	MaxSize int64 // bytes on disk
	OnFull  OnFull
	Sync    SpoolSync
	Places  Places `json:"-"` // where it is written
}

// OnFull says what becomes of records that the spool has no room for.
type OnFull string

// The values of on_full.
const (
	FullBlock      OnFull = "block"       // their sender waits
	FullDropNewest OnFull = "drop_newest" // they are dropped and counted
)

// SpoolSync says when what is written to the spool counts as accepted.
type SpoolSync string

// The values of sync.
const (
	SyncBatch SpoolSync = "batch" // on disk, synced in groups
	SyncNone  SpoolSync = "none"  // with the operating system: a loss of power may take it
)

// StdinSource reads lines from the agent's standard input, through a spool.
type StdinSource struct {
	MaxLine int64 // bytes, without the line's end
	Spool   Spool
}

const (
	// maxSocketPath is what sun_path of unix(7) holds, without its NUL.
	maxSocketPath = 107
	// minSpool is the smallest max_size of a spool.
	minSpool = 1 << 20
	// spoolFrames is how many frames of the most bytes a spool must hold, so that
	// segments can be freed while others are written.
	spoolFrames = 8
)

func defaultSpool() Spool { return Spool{MaxSize: 1 << 30, OnFull: FullBlock, Sync: SyncBatch} }

// stdinSource has no settings: a line is bounded as a file's is by default.
func (d *decoder) stdinSource(name string, b block) Source {
	places := d.block(b, schema{name: `source "stdin"`, key: "source.stdin"})
	return Source{Kind: SourceStdin, Name: name, Stdin: &StdinSource{MaxLine: 512 << 10, Spool: defaultSpool()}, Places: places}
}

func (d *decoder) socketSource(name string, b block) Source {
	s := &SocketSource{
		Framing: FramingNewline, MaxFrame: 512 << 10, MaxConnections: 1024, IdleTimeout: 5 * time.Minute,
		Mode: 0o660, Spool: defaultSpool(),
	}
	places := d.block(b, schema{
		name: `source "socket"`,
		key:  "source.socket",
		attributes: map[string]attribute{
			"listen":          into(&s.Listen, socketAddress),
			"framing":         into(&s.Framing, oneOf(FramingNewline, FramingOctetCounting, FramingSyslog, FramingNUL, FramingLengthPrefix)),
			"max_frame":       into(&s.MaxFrame, size(minLine, maxRequestSize)),
			"max_connections": into(&s.MaxConnections, integer(1, 1_000_000)),
			"idle_timeout":    into(&s.IdleTimeout, duration(0, math.MaxInt64)),
			"allow":           into(&s.Allow, some(listOf(prefix))),
			"mode":            into(&s.Mode, fileMode),
			"group":           into(&s.Group, nonEmpty),
		},
		blocks: map[string]nested{
			"tls":   {once: true, read: func(b block) { s.TLS = d.socketTLS(b) }},
			"spool": {once: true, read: func(b block) { d.spool(&s.Spool, b) }},
		},
	})
	if !places.Has("listen") {
		d.missingAt(places.Block(), `write listen = "tcp://127.0.0.1:5140"`, `source "socket" has no listen`)
	}
	if s.Listen.Network != "" {
		d.checkSocket(s, places)
	}
	if least := spoolFrames * s.MaxFrame; s.Spool.MaxSize < least {
		at := places.At("max_frame")
		if s.Spool.Places.Has("max_size") {
			at = s.Spool.Places.At("max_size")
		}
		d.errorAt(at, "raise max_size of the spool, or lower max_frame",
			"the spool of %s must hold at least %d frames of max_frame = %s", FormatSize(s.Spool.MaxSize), spoolFrames, FormatSize(s.MaxFrame))
	}
	return Source{Kind: SourceSocket, Name: name, Socket: s, Places: places}
}

func (d *decoder) spool(s *Spool, b block) {
	s.Places = d.block(b, schema{
		name: "spool",
		key:  "source.socket.spool",
		attributes: map[string]attribute{
			"max_size": into(&s.MaxSize, size(minSpool, 1<<50)),
			"on_full":  into(&s.OnFull, oneOf(FullBlock, FullDropNewest)),
			"sync":     into(&s.Sync, oneOf(SyncBatch, SyncNone)),
		},
	})
}

func (d *decoder) socketTLS(b block) *SocketTLS {
	t := &SocketTLS{}
	t.Places = d.block(b, schema{
		name: "tls",
		key:  "source.socket.tls",
		attributes: map[string]attribute{
			"cert_file":      into(&t.CertFile, readableFile),
			"key_file":       into(&t.KeyFile, readableFile),
			"client_ca_file": into(&t.ClientCAFile, readableFile),
		},
	})
	for _, name := range []string{"cert_file", "key_file"} {
		if !t.Places.Has(name) {
			d.missingAt(t.Places.Block(), fmt.Sprintf(`write %s = "…"`, name), "tls of a socket needs %s", name)
		}
	}
	return t
}

// checkSocket checks that what is written has a meaning for the network.
func (d *decoder) checkSocket(s *SocketSource, places Places) {
	network := s.Listen.Network
	refuse := func(why, hint string, names ...string) {
		for _, name := range names {
			if places.Has(name) {
				d.errorAt(places.At(name), hint, "%s is %s: %s listens on %s", name, why, `source "socket"`, s.Listen)
			}
		}
	}
	if network == UDP || network == Unixgram {
		refuse("for streams", "leave it out: a datagram is one record", "max_connections", "idle_timeout")
		if s.Framing == FramingOctetCounting || s.Framing == FramingLengthPrefix {
			refuse("for streams where it counts", "leave it out: a datagram is one record", "framing")
		}
	}
	if network != Unix && network != Unixgram {
		refuse("for unix sockets", "leave it out; for systemd:// it is in the socket unit", "mode", "group")
	} else {
		refuse("for tcp and udp", "leave it out: mode and group say who may connect", "allow")
	}
	if s.TLS != nil && network != TCP && network != Systemd {
		d.errorAt(s.TLS.Places.Block(), "listen on tcp://, or leave tls out", "tls is for tcp: %s listens on %s", `source "socket"`, s.Listen)
	}
	if s.TLS == nil && s.Allow == nil && s.Listen.beyondLoopback() {
		hint := `write allow = ["192.0.2.0/24"] with the networks of the senders`
		if network == TCP {
			hint += ", or tls { … }"
		}
		d.errorAt(places.At("listen"), hint, "listening beyond loopback on %s needs tls or allow: anybody could send records", s.Listen)
	}
}

// beyondLoopback says that other hosts may reach the address. A host that is a
// name may be any address.
func (l Listen) beyondLoopback() bool {
	if l.Network != TCP && l.Network != UDP {
		return false
	}
	host, _, err := net.SplitHostPort(l.Address)
	if err != nil || host == "localhost" {
		return false
	}
	address, err := netip.ParseAddr(host)
	return err != nil || !address.Unmap().IsLoopback()
}

// anyPort says that the port is the kernel's choice, so that two sources may
// have the same address.
func (l Listen) anyPort() bool {
	if l.Network != TCP && l.Network != UDP {
		return false
	}
	_, port, err := net.SplitHostPort(l.Address)
	return err == nil && port == "0"
}

const listenForms = `"tcp://127.0.0.1:5140", "udp://127.0.0.1:5140", "unix:///run/app.sock", "unixgram:///run/app.sock" or "systemd://NAME"`

// socketAddress takes the address of a listening socket with its network.
func socketAddress(v value) (Listen, bool) {
	s, ok := nonEmpty(v)
	if !ok {
		return Listen{}, false
	}
	scheme, rest, found := strings.Cut(s, "://")
	if !found {
		v.fail("write "+listenForms, "must be an address with its network, not %s", quote(s))
		return Listen{}, false
	}
	l := Listen{Network: Network(scheme), Address: rest}
	var problem, hint string
	switch l.Network {
	case TCP, UDP:
		problem, hint = checkHostPort(&l)
	case Unix, Unixgram:
		problem, hint = checkSocketPath(l.Address)
	case Systemd:
		if !regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,255}$`).MatchString(rest) {
			problem, hint = "must name a socket of systemd", "it is FileDescriptorName= of the socket unit, by default the unit's name"
		}
	default:
		problem, hint = "has an unknown network", Suggest(scheme, []string{"tcp", "udp", "unix", "unixgram", "systemd"})
	}
	if problem != "" {
		v.fail(hint, "%s, not %s", problem, quote(s))
		return Listen{}, false
	}
	return l, true
}

// checkHostPort checks the address of l and writes it as two equal ones are equal.
func checkHostPort(l *Listen) (problem, hint string) {
	host, port, err := net.SplitHostPort(l.Address)
	if err != nil {
		return "must have a host and a port", fmt.Sprintf(`write "%s://127.0.0.1:5140"; an IPv6 address stands in brackets`, l.Network)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "must have a port from 0 to 65535", "0 leaves the choice to the kernel"
	}
	switch address, err := netip.ParseAddr(host); {
	case err == nil:
		host = address.String()
	case host == "":
		return "must have a host", `write 0.0.0.0 or [::] to listen on all addresses`
	case !regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`).MatchString(host):
		return "must have an address or a host name", ""
	}
	l.Address = net.JoinHostPort(host, strconv.FormatUint(n, 10))
	return "", ""
}

func checkSocketPath(path string) (problem, hint string) {
	switch {
	case !strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/"):
		return "must have an absolute path", `three slashes begin it: "unix:///run/app.sock"`
	case len(path) > maxSocketPath:
		return fmt.Sprintf("has a path of %d bytes, the system takes %d", len(path), maxSocketPath), "choose a shorter one, such as below /run"
	default:
		return "", ""
	}
}

// prefix takes a network, or an address as the network of that one alone.
func prefix(v value) (netip.Prefix, bool) {
	s, ok := nonEmpty(v)
	if !ok {
		return netip.Prefix{}, false
	}
	if address, err := netip.ParseAddr(s); err == nil && address.Zone() == "" {
		address = address.Unmap()
		return netip.PrefixFrom(address, address.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		v.fail(`write "10.0.0.0/8", "2001:db8::/32" or one address`, "must be a network, not %s", quote(s))
		return netip.Prefix{}, false
	case p.Addr().Is4In6():
		v.fail("write it as a network of IPv4", "must not be IPv4 inside IPv6: %s", quote(s))
		return netip.Prefix{}, false
	case p.Masked() != p:
		v.fail("write "+quote(p.Masked().String()), "has bits behind its mask: %s", quote(s))
		return netip.Prefix{}, false
	}
	return p, true
}

// fileMode takes the permissions of a socket, in octal digits.
func fileMode(v value) (fs.FileMode, bool) {
	s, ok := nonEmpty(v)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > 0o777 || len(s) < 3 {
		v.fail(`write "0660"`, "must be permissions in octal digits, not %s", quote(s))
		return 0, false
	}
	return fs.FileMode(n), true
}

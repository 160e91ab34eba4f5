package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/protobuf/proto"

	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// version is the protocol that the plugin offers.
func (h *hostile) version() int {
	if h.behaviour == "speaks another protocol" {
		return 9
	}
	return wire.ProtocolVersion
}

// beforeHandshake does what comes before the plugin serves, and reports whether
// it has served.
func (h *hostile) beforeHandshake() bool {
	switch h.behaviour {
	case "exits":
		fmt.Fprintln(os.Stderr, "no licence found")
		os.Exit(1)
	case "exits at its second start":
		if !h.once() {
			fmt.Fprintln(os.Stderr, "no licence found")
			os.Exit(1)
		}
		h.marker = h.marker + ".never"
	case "starts slowly":
		waitForEver()
	case "prints a banner":
		fmt.Println("welcome to \x1b[2Jhostile 6.6.6")
		waitForEver()
	case "has another cookie":
		serve(h, plugin.HandshakeConfig{MagicCookieKey: wire.CookieKey, MagicCookieValue: "other"})
		return true
	case "speaks net/rpc":
		fmt.Printf("1|1|unix|%s/x|netrpc\n", os.Getenv("PLUGIN_UNIX_SOCKET_DIR"))
		waitForEver()
	case "lets another process serve":
		h.serveByImposter()
		return true
	case "is the imposter":
		h.behaviour = ""
	}
	return false
}

// serveByImposter has a process outside the plugin's process group listen and
// print the handshake in the plugin's name.
func (h *hostile) serveByImposter() {
	c := exec.Command("/proc/self/exe")
	c.Args = []string{os.Args[0]}
	c.Env = append(os.Environ(), "HOSTILE=is the imposter")
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	waitForEver()
}

// showItself writes into the marker's folder what the process has.
func (h *hostile) showItself() error {
	dir := filepath.Dir(h.marker)
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	var files []string
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			files = append(files, e.Name()+" "+target)
		}
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	limits, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"environment": strings.Join(os.Environ(), "\n"), "files": strings.Join(files, "\n"),
		"status": string(status), "limits": string(limits),
		"group": strconv.Itoa(syscall.Getpgrp()) + " " + strconv.Itoa(os.Getpid()),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// fork leaves a grandchild outside the process group that keeps the pipes open.
func (h *hostile) fork() error {
	c := exec.Command("/bin/sleep", "60")
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return err
	}
	return os.WriteFile(h.marker+".grandchild", []byte(strconv.Itoa(c.Process.Pid)), 0o600)
}

// readStdin takes what it can get from the agent's stdin.
func (h *hostile) readStdin() error {
	got, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	return os.WriteFile(h.marker, got, 0o600)
}

// misbehave does what does not end in a reply, or delays it.
func (h *hostile) misbehave() {
	switch h.behaviour {
	case "panics":
		go panic("the batch is too hot")
		waitForEver()
	case "segfaults":
		syscall.Kill(os.Getpid(), syscall.SIGSEGV)
		waitForEver()
	case "exits at work":
		os.Exit(0)
	case "is killed":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		waitForEver()
	case "hangs":
		waitForEver()
	case "stops":
		syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "is slow":
		<-time.After(100 * time.Millisecond)
	case "floods stderr":
		flood(descriptor(2))
	case "floods stdout":
		flood(descriptor(1))
	case "takes memory":
		h.take(4 << 30)
	case "leaks":
		h.take(30 << 20)
	case "forks a bomb":
		h.bomb()
	}
}

// descriptor writes past go-plugin, which replaces os.Stdout and os.Stderr, and
// is never closed by the garbage collector, as an os.File would be.
type descriptor int

// Write writes all of b.
func (d descriptor) Write(b []byte) (int, error) {
	for at := 0; at < len(b); {
		n, err := syscall.Write(int(d), b[at:])
		if err != nil {
			return at, err
		}
		at += n
	}
	return len(b), nil
}

// take fills memory that is never freed.
func (h *hostile) take(n int) {
	const step = 1 << 20
	for ; n > 0; n -= step {
		block := make([]byte, step)
		for i := range block {
			block[i] = byte(i)
		}
		h.leaked = append(h.leaked, block)
	}
}

// bomb starts children until it may not, or has many, names them, and hangs.
func (h *hostile) bomb() {
	const most = 600
	var pids strings.Builder
	for range most {
		c := exec.Command("/bin/sleep", "60")
		if c.Start() != nil {
			break
		}
		fmt.Fprintln(&pids, c.Process.Pid)
	}
	os.WriteFile(h.marker+".children", []byte(pids.String()), 0o600)
	waitForEver()
}

// flood prints long lines, many lines, and lines that pass for others'.
func flood(w io.Writer) {
	fmt.Fprintln(w, `{"@message":"the agent is fine","@level":"error","pipeline":"forged","@timestamp":1}`)
	fmt.Fprintln(w, `{"@message":1,"@level":{},"@timestamp":[]}`)
	fmt.Fprintln(w, "\x1b[2Jforged\rline\r\nlevel=error msg=forged")
	chunk := []byte(strings.Repeat("x", 1<<20))
	for range 64 {
		w.Write(chunk)
	}
	for range 5000 {
		io.WriteString(w, "\nanother line")
	}
	io.WriteString(w, "\n")
}

// answers are the messages that answer a batch, usually one.
func (h *hostile) answers(b *wirev1.Batch, honest *wirev1.Reply) []any {
	switch h.behaviour {
	case "counts wrong":
		honest.Count++
	case "answers another batch":
		honest.Id += 1000
	case "answers twice":
		return []any{honest, honest}
	case "never says why":
		honest.Verdicts = append(make([]byte, b.Count-1), 2)
	case "reorders":
		honest.Value = values([]uint32{1, 0}, "x", "y")
	case "names a row that is not there":
		honest.Value = values([]uint32{b.Count}, "x")
	case "sends no column":
		honest.Value = &wirev1.ColumnChange{}
	case "points outside":
		honest.Value = values([]uint32{0}, "x")
		binary.LittleEndian.PutUint32(honest.Value.Column.Lengths, 1<<31)
	case "writes what it did not declare":
		honest.Headers = &wirev1.HeaderChange{Rows: u32(0), Headers: &wirev1.HeaderColumn{Counts: u32(0), Names: &wirev1.Column{}, Values: &wirev1.Column{}}}
	case "has a strange verdict":
		honest.Verdicts = append(make([]byte, b.Count-1), 77)
	case "sends garbage":
		return []any{raw("\xff\xff\xff\xff\xff garbage")}
	case "sends invalid text":
		return []any{invalidText(honest)}
	case "sends a huge reply":
		honest.Value = values([]uint32{0}, strings.Repeat("x", 64<<20))
	case "grows a record":
		honest.Value = values([]uint32{0}, strings.Repeat("x", 2<<20))
	case "chooses a forbidden topic":
		honest.Topic = &wirev1.TopicChange{Rows: u32(0), Topic: &wirev1.TopicColumn{Topics: []string{"__consumer_offsets"}}}
	case "chooses partition -2":
		honest.Partitions = &wirev1.NumberChange{Rows: u32(0), Values: u32(0xfffffffe)}
	case "chooses partition 9999":
		honest.Partitions = &wirev1.NumberChange{Rows: u32(0), Values: u32(9999)}
	case "serializes nothing":
		honest.Value = values([]uint32{0}, "")
	case "answers by chance":
		honest.Value = values([]uint32{0}, strconv.FormatUint(rand.Uint64(), 10))
	case "drops all":
		honest.Verdicts = []byte(strings.Repeat("\x01", int(b.Count)))
	}
	return []any{honest}
}

// values replaces the values of rows.
func values(rows []uint32, texts ...string) *wirev1.ColumnChange {
	c := &wirev1.Column{}
	for _, text := range texts {
		c.Offsets = append(c.Offsets, u32(uint32(len(c.Data)))...)
		c.Lengths = append(c.Lengths, u32(uint32(len(text)))...)
		c.Data = append(c.Data, text...)
	}
	return &wirev1.ColumnChange{Rows: u32(rows...), Column: c}
}

// u32 encodes numbers as columns do.
func u32(numbers ...uint32) []byte {
	var b []byte
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return b
}

// invalidText is a reply whose failure of the first record is not UTF-8.
func invalidText(honest *wirev1.Reply) raw {
	honest.Verdicts = append([]byte{2}, make([]byte, honest.Count-1)...)
	text, err := proto.Marshal(honest)
	if err != nil {
		panic(err)
	}
	failure := []byte("\x1a\x03\xff\xfe\x1b") // field 3, the message, three bytes
	return raw(append(append(text, 0x22, byte(len(failure))), failure...))
}

// raw is a message that is sent as it is.
type raw []byte

// rawCodec is protobuf's, but for raw.
type rawCodec struct{}

// Name is protobuf's.
func (rawCodec) Name() string { return "proto" }

// Marshal encodes a message.
func (rawCodec) Marshal(v any) ([]byte, error) {
	if bytes, ok := v.(raw); ok {
		return bytes, nil
	}
	return proto.Marshal(v.(proto.Message))
}

// Unmarshal decodes a message.
func (rawCodec) Unmarshal(data []byte, v any) error { return proto.Unmarshal(data, v.(proto.Message)) }

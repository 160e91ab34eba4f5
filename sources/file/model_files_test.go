package file

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/fsnotify/fsnotify"
)

func (m *model) path(name string) string { return filepath.Join(m.dir, name) }

// sealed returns a line that no other equals, in no part that a guard could cover.
func sealed(number, length int) string {
	line := fmt.Sprintf("%06d:", number)
	for n := 0; len(line) < length; n++ {
		line += fmt.Sprintf("%08x", crc32.ChecksumIEEE(fmt.Appendf(nil, "%d.%d", number, n)))
	}
	return fmt.Sprintf("%s:%08x", line, crc32.ChecksumIEEE([]byte(line)))
}

func (m *model) newLine() string {
	m.count++
	length := rapid.IntRange(0, 80).Draw(m.T, "length")
	if length == 80 {
		length = rapid.IntRange(maxModelLine/3, maxModelLine+1000).Draw(m.T, "great length")
	}
	return sealed(m.count, length)
}

func (m *model) newLines() string {
	var lines strings.Builder
	for range rapid.IntRange(1, 4).Draw(m.T, "lines") {
		lines.WriteString(m.newLine() + "\n")
	}
	return lines.String()
}

// pick draws one of the names that fit.
func (m *model) pick(fits func(name string, th *thing) bool) (string, *thing) {
	var names []string
	for name, th := range m.names {
		if fits == nil || fits(name, th) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		m.Skip("no file")
	}
	slices.Sort(names)
	name := rapid.SampledFrom(names).Draw(m.T, "name")
	return name, m.names[name]
}

// create makes an empty file, which is a new inode.
func (m *model) create(name string) *thing {
	f, err := os.OpenFile(m.path(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	m.must(err)
	defer f.Close()
	l, err := lookAt(int(f.Fd()))
	m.must(err)
	th := &thing{id: identify(int(f.Fd()), l.inode), body: newBody()}
	th.bodies = []*body{th.body}
	m.all = append(m.all, th)
	m.names[name] = th
	return th
}

// add appends to a file, by the writer that it has, or by its name.
func (m *model) add(name string, th *thing, content string) {
	w := th.writer
	if w == nil {
		var err error
		w, err = os.OpenFile(m.path(name), os.O_APPEND|os.O_WRONLY, 0)
		m.must(err)
		defer w.Close()
	}
	_, err := w.WriteString(content)
	m.must(err)
	th.body.bytes += content
}

// written is a program's file, which is made if it is not there.
func (m *model) written() (string, *thing) {
	name := rapid.SampledFrom([]string{"a.log", "b.log"}).Draw(m.T, "file")
	if m.names[name] == nil {
		return name, m.create(name)
	}
	return name, m.names[name]
}

func (m *model) write() {
	name, th := m.written()
	m.add(name, th, m.newLines())
}

func (m *model) writePart() {
	name, th := m.written()
	m.add(name, th, m.newLine())
}

// writeLate goes on in a file that may have lost its name.
func (m *model) writeLate() {
	var open []*thing
	for _, th := range m.all {
		if th.writer != nil {
			open = append(open, th)
		}
	}
	if len(open) > 0 && rapid.Bool().Draw(m.T, "by a writer") {
		m.add("", rapid.SampledFrom(open).Draw(m.T, "writer"), m.newLines())
		return
	}
	name, th := m.pick(nil)
	m.add(name, th, m.newLines())
}

func (m *model) openWriter() {
	name, th := m.pick(func(_ string, th *thing) bool { return th.writer == nil })
	var err error
	th.writer, err = os.OpenFile(m.path(name), os.O_APPEND|os.O_WRONLY, 0)
	m.must(err)
}

func (m *model) closeWriter() {
	for _, th := range m.all {
		if th.writer != nil {
			th.closeWriter()
			return
		}
	}
	m.Skip("no writer")
}

func (m *model) newName(format string) string {
	m.count++
	return fmt.Sprintf(format, m.count)
}

func (m *model) rename(format string) {
	name, _ := m.pick(nil)
	m.renameTo(name, m.newName(format))
}

func (m *model) renameTo(from, to string) {
	m.must(os.Rename(m.path(from), m.path(to)))
	m.names[from].moved = true
	if old := m.names[to]; old != nil {
		old.moved = true
	}
	m.names[to] = m.names[from]
	delete(m.names, from)
}

// rotate is what logrotate does.
func (m *model) rotate() {
	name, _ := m.pick(func(name string, _ *thing) bool { return name == "a.log" || name == "b.log" })
	m.renameTo(name, m.newName(rapid.SampledFrom([]string{"old-%d", "r%d.log"}).Draw(m.T, "to")))
	m.add(name, m.create(name), m.newLines())
}

func (m *model) exchange() {
	a, first := m.pick(nil)
	b, second := m.pick(func(name string, _ *thing) bool { return name != a })
	m.must(unix.Renameat2(unix.AT_FDCWD, m.path(a), unix.AT_FDCWD, m.path(b), unix.RENAME_EXCHANGE))
	m.names[a], m.names[b] = second, first
	first.moved, second.moved = true, true
}

// replace is how an editor writes a file: beside it, and then in its place.
func (m *model) replace() {
	name, _ := m.pick(nil)
	fresh := m.newName("new-%d")
	m.add(fresh, m.create(fresh), m.newLines())
	m.renameTo(fresh, name)
}

func (m *model) hardLink() {
	name, th := m.pick(nil)
	other := m.newName(rapid.SampledFrom([]string{"h%d.log", "hard-%d"}).Draw(m.T, "to"))
	m.must(os.Link(m.path(name), m.path(other)))
	m.names[other] = th
}

// moveLink makes current.log a link to a file that no pattern names otherwise.
func (m *model) moveLink() {
	if th := m.names[m.link]; th != nil {
		th.moved = true
	}
	m.link = m.newName("target-%d")
	m.add(m.link, m.create(m.link), m.newLines())
	m.must(os.Symlink(m.link, m.path("next")))
	m.must(os.Rename(m.path("next"), m.path("current.log")))
}

// copy makes a copy, with a name like that of the file or with another.
func (m *model) copy() {
	name, th := m.pick(nil)
	m.copyOf(name, th)
}

func (m *model) copyOf(name string, th *thing) {
	stem := strings.TrimSuffix(name, ".log")
	names := []string{"copy-%d", "c%d.log"}
	if m.copies {
		names = append(names, name+".%d", stem+"-%d.log")
	}
	to := m.newName(rapid.SampledFrom(names).Draw(m.T, "to"))
	fresh := m.create(to)
	if !m.copies { // another file: of it nothing is read in place of the first
		m.add(to, fresh, m.newLine()+"\n"+th.body.bytes)
		return
	}
	fresh.copied, th.copied = true, true // whichever is cut, the other may be read in its place
	m.add(to, fresh, th.body.bytes)
	fresh.body.delivered = th.body.delivered
}

// copyTruncate is what logrotate does for programs that can't open their file anew.
func (m *model) copyTruncate() {
	name, th := m.pick(nil)
	m.copyOf(name, th)
	m.cut(name, th, 0, "")
}

func (m *model) truncate() {
	name, th := m.pick(nil)
	keep := 0
	if lines := strings.Count(th.body.bytes, "\n"); lines > 0 && rapid.Bool().Draw(m.T, "in the middle") {
		for range rapid.IntRange(0, lines-1).Draw(m.T, "lines to keep") {
			keep += strings.IndexByte(th.body.bytes[keep:], '\n') + 1
		}
		keep += rapid.IntRange(0, 5).Draw(m.T, "bytes to keep")
		keep = min(keep, len(th.body.bytes))
	}
	m.cut(name, th, keep, "")
}

func (m *model) rewrite() {
	name, th := m.pick(nil)
	content := m.newLines()
	if rapid.Bool().Draw(m.T, "to more") {
		for len(content) <= len(th.body.bytes) {
			content += m.newLine() + "\n"
		}
		content += m.newLine()
	}
	m.cut(name, th, 0, content)
}

func (m *model) rewriteSame() {
	name, th := m.pick(func(_ string, th *thing) bool { return len(th.body.bytes) > 0 })
	size := len(th.body.bytes)
	content := m.newLine()
	for len(content) < size {
		content += "\n" + m.newLine()
	}
	content = content[:size]
	if rapid.Bool().Draw(m.T, "ended") {
		content = content[:size-1] + "\n"
	}
	m.cut(name, th, 0, content)
}

// cut truncates a file and writes to it before the agent can look, unless it is
// attentive.
func (m *model) cut(name string, th *thing, keep int, content string) {
	if m.attentive {
		m.poll(0)
	}
	before := len(th.body.bytes)
	m.must(os.Truncate(m.path(name), int64(keep)))
	m.replaced(th, th.body.bytes[:keep])
	if m.attentive {
		m.poll(0)
	}
	if content != "" {
		m.add(name, th, content)
	}
	if len(th.body.bytes) == before { // the clock of a filesystem may be coarse
		at := m.clock.Add(time.Duration(m.count) * time.Second)
		m.must(os.Chtimes(m.path(name), at, at))
	}
}

func (m *model) remove() {
	name, th := m.pick(nil)
	m.must(os.Remove(m.path(name)))
	th.moved = true
	delete(m.names, name)
}

// recreate is where a filesystem may give the same inode number again.
func (m *model) recreate() {
	name, _ := m.pick(nil)
	m.must(os.Remove(m.path(name)))
	m.names[name].moved = true
	m.add(name, m.create(name), m.newLines())
}

func (m *model) chmod(mode os.FileMode) {
	name, _ := m.pick(nil)
	m.must(os.Chmod(m.path(name), mode))
}

// event gives a hint, true or not.
func (m *model) event() {
	name := "never-was.log"
	if len(m.names) > 0 && rapid.Bool().Draw(m.T, "of a file") {
		name, _ = m.pick(nil)
	}
	op := rapid.SampledFrom([]fsnotify.Op{fsnotify.Create, fsnotify.Write, fsnotify.Rename, fsnotify.Remove}).Draw(m.T, "op")
	m.agent(func() { m.discovers.hint(fsnotify.Event{Name: m.path(name), Op: op}, m.clock) })
	m.looked()
	m.restarted()
}

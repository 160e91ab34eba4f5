package pluginhost

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// untrusted says why a user other than root and the agent's own could change
// the file that was opened at path, or replace it, or nothing. Both the path as
// written and the one behind its symbolic links are walked up to the root.
func untrusted(path string, opened fs.FileInfo) (string, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	resolved, err := filepath.EvalSymlinks(absolute)
	if err != nil {
		return "", err
	}
	groups := groupMembers{passwd: "/etc/passwd", group: "/etc/group"}
	if why := foreign(path, opened, os.Geteuid(), groups); why != "" {
		return why, nil
	}
	for _, start := range []string{filepath.Dir(resolved), filepath.Dir(absolute)} {
		for at := start; ; at = filepath.Dir(at) {
			info, err := os.Stat(at)
			if err != nil {
				return "", err
			}
			if why := foreign(at, info, os.Geteuid(), groups); why != "" {
				return why, nil
			}
			if at == filepath.Dir(at) {
				break
			}
		}
	}
	return "", nil
}

// foreign says why the file or directory at path is in other hands than root's and euid's.
func foreign(path string, info fs.FileInfo, euid int, groups groupMembers) string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return path + " has no owner that can be read"
	}
	if stat.Uid != 0 && int(stat.Uid) != euid {
		return fmt.Sprintf("%s is owned by user %d", path, stat.Uid)
	}
	if info.IsDir() && info.Mode()&fs.ModeSticky != 0 {
		return "" // only owners can replace entries
	}
	mode := info.Mode().Perm()
	if mode&0o002 != 0 {
		return fmt.Sprintf("%s is writable for everybody (mode %04o)", path, mode)
	}
	if mode&0o020 != 0 && !groups.private(stat.Gid, euid) {
		return fmt.Sprintf("%s is writable for group %d (mode %04o)", path, stat.Gid, mode)
	}
	return ""
}

// groupMembers reads who is in a group from the system's files.
type groupMembers struct{ passwd, group string }

// private reports whether nobody but root and euid is in the group: the usual
// case of a user's own group. A group that the files don't list counts as shared.
func (g groupMembers) private(gid uint32, euid int) bool {
	allowed := map[string]bool{}
	onlyOurs := true
	err := scanColons(g.passwd, func(f []string) {
		if len(f) < 4 {
			return
		}
		ours := f[2] == "0" || f[2] == strconv.Itoa(euid)
		allowed[f[0]] = ours
		if f[3] == strconv.FormatUint(uint64(gid), 10) && !ours {
			onlyOurs = false
		}
	})
	if err != nil {
		return false
	}
	listed := false
	err = scanColons(g.group, func(f []string) {
		if len(f) < 4 || f[2] != strconv.FormatUint(uint64(gid), 10) {
			return
		}
		listed = true
		for member := range strings.SplitSeq(f[3], ",") {
			if member != "" && !allowed[member] {
				onlyOurs = false
			}
		}
	})
	return err == nil && listed && onlyOurs
}

// scanColons calls row with the fields of each line of a colon-separated file.
func scanColons(path string, row func([]string)) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(io.LimitReader(file, 16<<20))
	for lines.Scan() {
		row(strings.Split(lines.Text(), ":"))
	}
	return lines.Err()
}

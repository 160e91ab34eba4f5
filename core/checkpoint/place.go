package checkpoint

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Caution says what is to be known of the file system that dir lies on, "" where
// positions are as safe as a sync makes them.
func Caution(dir string) (string, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return "", fmt.Errorf("ask for the file system of %s: %w", dir, err)
	}
	return caution(stat.Type), nil
}

// caution knows file systems by their numbers (linux/magic.h).
func caution(kind int64) string {
	switch uint32(kind) {
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.V9FS_MAGIC, unix.CEPH_SUPER_MAGIC, unix.AFS_SUPER_MAGIC:
		return "it is a network file system: the lock may not keep a second agent away, and an outage of the server stops the agent; use a local disk"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "it is an overlay, as of a container's image: it goes with the container; mount a volume there"
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		return "it is in memory: positions and quarantined records are gone after a restart of the machine; use a disk"
	case unix.FUSE_SUPER_MAGIC:
		return "it is a FUSE file system: whether a sync reaches a disk is up to its program; use a local disk"
	}
	return ""
}

// Package checkpoint keeps the durable positions of all sources, and the lock of
// the data directory.
//
// Files in the directory, all owned by the agent's user and mode 0600:
//
//	positions                   the positions: a bbolt database, one transaction per commit
//	positions.previous          an older complete copy, made at each start and every ten minutes
//	positions.new               a copy being written; left over by a crash, it is replaced
//	positions.damaged-<time>    a file that failed its check, set aside and never read again
//	lock                        held by flock; holds the pid of its holder in decimal
//
// # Format of positions
//
// Bucket "positions" maps a key to a value of this layout:
//
//	offset  bytes  content
//	0       1      version of the layout: 1
//	1       4      CRC-32C, little-endian, of the key followed by the source's value
//	5       rest   the source's value
//
// Bucket "meta" holds "format" (version of the whole file in decimal), "sum"
// (number of keys as 8 bytes and the XOR of their CRCs as 4, little-endian, so
// that a missing key is noticed) and, while it applies, "lost" (see [Store.Lost]).
//
//	format  written by  read as
//	1       this        itself
//	other   -           start is refused: a newer agent wrote the file
//
// # Damage
//
// Older positions cost duplicates, never records, so a file that fails its check
// is set aside and the previous copy is used. bbolt panics, loops or faults on
// damaged files, so they are read by a parser that trusts nothing, and each start
// continues in a database written anew from what it read.
package checkpoint

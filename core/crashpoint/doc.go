// Package crashpoint names the places at which a crash is tried out: before and
// after each write, fsync, rename and delivery report that durability rests on.
//
// A place is a call of [At] with a name in quotes, unique in the tree; the tests
// find it by that form and kill an agent there. Only a binary that is built with
// the tag crashpoints can be killed: in any other, At is empty and costs nothing.
// Such a binary takes from its environment
//
//	BARNABAS_CRASH_AT=NAME[:N]   kill the process at the N-th passage of NAME, 1 if N is left out
//	BARNABAS_STOP_AT=NAME[:N]    let the goroutine that passes there go no further, as in a deadlock
package crashpoint

// The environment variables that arm a point.
const (
	Variable     = "BARNABAS_CRASH_AT"
	StopVariable = "BARNABAS_STOP_AT"
)

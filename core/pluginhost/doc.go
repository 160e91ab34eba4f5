// Package pluginhost runs plugins: it finds their binaries, asks what they are,
// starts one process per configured stage, passes batches through it, replaces
// it when it breaks, and replays what it had not answered.
//
// A plugin can't hurt the agent. It may crash, hang, lie, or flood its output:
// a batch stays the host's until a complete reply has been validated, and is
// then changed whole or not at all, so that the end of a process is a replay
// and nothing else.
package pluginhost

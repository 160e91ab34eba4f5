// Package wire is the plugin protocol as both ends speak it: the handshake, the
// settings of the transport, the codec of frames, and the translation between
// batches and frames.
//
// The host encodes the columns that a plugin reads with an [Encoder], and takes
// a reply with [ApplyReply], which trusts nothing in it. A plugin reads a frame
// through a [View] and answers with a [ReplyBuilder]. The messages themselves
// are defined in the subpackage v1, which no plugin author sees.
package wire

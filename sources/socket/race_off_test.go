//go:build !race

package socket

// raced says that the race detector adds to what is measured.
const raced = false

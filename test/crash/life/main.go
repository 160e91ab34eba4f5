// Program life lives a life of one of the agent's stores, so that it can be
// killed at a named point: life NAME DIR ROUNDS.
package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/barnabas-agent/barnabas/test/life"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: life NAME DIR ROUNDS")
		os.Exit(2)
	}
	rounds, err := strconv.Atoi(os.Args[3])
	if err == nil {
		err = life.Run(os.Args[1], os.Args[2], rounds, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Command fakebroker is kfake, an embedded Kafka broker, as a process of its
// own: next to a JVM it leaves more of a small machine to what is measured. It
// keeps its data on disk, so that the topic can be counted and memory does not
// grow. It prints its address and runs until SIGTERM.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/twmb/franz-go/pkg/kfake"
)

func main() {
	folder := flag.String("data", "", "folder for the data")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(*folder))
	if err != nil {
		fmt.Fprintln(os.Stderr, "fakebroker:", err)
		os.Exit(1)
	}
	fmt.Println(strings.Join(cluster.ListenAddrs(), ","))
	<-ctx.Done()
	cluster.Close()
}

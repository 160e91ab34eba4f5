package script

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// serveBroker is a broker in a process of its own: broker PORT TOPIC...
func serveBroker() {
	var port int
	if _, err := fmt.Sscan(os.Args[1], &port); err != nil {
		panic(err)
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.SeedTopics(3, os.Args[2:]...))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("serving", cluster.ListenAddrs())
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	<-asked
	cluster.Close()
}

// cmdRecords prints the first N records of a topic, by partition and offset:
// topic-partition@offset key=… value=… headers; what is null is shown as such.
func cmdRecords(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, "records TOPIC N")
	client, err := kgo.NewClient(kgo.SeedBrokers(ts.Getenv("BOOTSTRAP")), kgo.ConsumeTopics(args[0]),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	ts.Check(err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for left := number(ts, args[1]); left > 0; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			ts.Fatalf("%d records are missing: %v", left, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			left--
			fmt.Fprintf(ts.Stdout(), "%s-%d@%d key=%s value=%s", r.Topic, r.Partition, r.Offset, orNull(r.Key), orNull(r.Value))
			for _, h := range r.Headers {
				fmt.Fprintf(ts.Stdout(), " %s:%s", h.Key, orNull(h.Value))
			}
			fmt.Fprintln(ts.Stdout())
		})
	}
}

func orNull(b []byte) string {
	if b == nil {
		return "null"
	}
	return fmt.Sprintf("%q", b)
}

// cmdHTTP asks $PORT for a path until the answer has that code, and prints the body.
func cmdHTTP(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, "http CODE PATH TIME [regexp]")
	expression := regexp.MustCompile("(?m)" + strings.Join(args[3:], " "))
	want := number(ts, args[0])
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	var body, last string
	poll(ts, duration(ts, args[2]), func() bool {
		response, err := client.Get("http://127.0.0.1:" + ts.Getenv("PORT") + args[1])
		if err != nil {
			last = err.Error()
			return false
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		ts.Check(err)
		body, last = string(text), fmt.Sprintf("%s: %s", response.Status, text)
		return response.StatusCode == want && expression.Match(text)
	}, func() string {
		return fmt.Sprintf("%s to answer %d %s; the last answer: %s", args[1], want, expression, last)
	})
	fmt.Fprintln(ts.Stdout(), strings.TrimSpace(body))
}

package spool_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/spool"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// childVariable makes the test binary a process that appends to the spool in
// the folder that it names, until it is killed.
const childVariable = "BARNABAS_TEST_SPOOL"

// crashesVariable is how often a child is killed; CI kills 15.
const crashesVariable = "BARNABAS_TEST_CRASHES"

// childPeers append at the same time, each numbered from where it is told.
const childPeers = 4

// appendUntilKilled says "PEER NUMBER" for each record that is accepted.
func appendUntilKilled(dir string, begin []int) error {
	c := configOf(dir)
	c.MaxSize, c.MaxEntry = 2<<20, 8<<10
	s, err := spool.Open(c)
	if err != nil {
		return err
	}
	var saying sync.Mutex
	return s.Run(context.Background(), []record.Lane{}, func(ctx context.Context) error {
		var peers sync.WaitGroup
		for peer := range childPeers {
			peers.Go(func() {
				random := rand.New(rand.NewPCG(uint64(peer), uint64(begin[peer])))
				for n := begin[peer]; ; {
					var entries []spool.Entry
					for range 1 + random.IntN(20) {
						entries = append(entries, spool.Entry{Peer: strconv.Itoa(peer), Value: []byte(numberedValue(n, random.IntN(3000)))})
						n++
					}
					if _, err := s.Append(ctx, entries); err != nil {
						panic(err)
					}
					saying.Lock()
					fmt.Println(peer, n-1)
					saying.Unlock()
				}
			})
		}
		peers.Wait()
		return nil
	})
}

func numberedValue(n, length int) string { return fmt.Sprint(n, " ", strings.Repeat("x", length)) }

// A process that is killed at any moment loses no record that it had accepted,
// whatever it was doing, and however often that happens.
func TestNoAcceptedRecordIsLostByKills(t *testing.T) {
	crashes := 15
	if text := os.Getenv(crashesVariable); text != "" {
		var err error
		if crashes, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(t.TempDir(), "spool")
	acknowledged := make([]int, childPeers) // the next number of each peer
	delivered := make([]int, childPeers)
	positions := sourcetest.Positions{}
	for crash := range crashes {
		random := rand.New(rand.NewPCG(uint64(crash), 7))
		for peer, n := range killedChild(t, dir, delivered, time.Duration(1+random.IntN(60))*time.Millisecond) {
			acknowledged[peer] = max(acknowledged[peer], n)
		}
		// The next start reads all of it. The log may hold more than was said to be accepted.
		c := configOf(dir)
		c.MaxSize, c.MaxEntry, c.Saved = 2<<20, 8<<10, positions.Saved()
		before := damagedBytes(t, c)
		for _, r := range drain(t, c) {
			peer, err := strconv.Atoi(r.Stream.Origin().Peer)
			if err != nil {
				t.Fatal(err)
			}
			number, _, _ := strings.Cut(r.Value, " ")
			if n, err := strconv.Atoi(number); err != nil || n != delivered[peer] {
				t.Fatalf("crash %d: peer %d: record %q, expected number %d: %v", crash, peer, number, delivered[peer], err)
			}
			delivered[peer]++
		}
		for peer := range childPeers {
			if delivered[peer] < acknowledged[peer] {
				t.Fatalf("crash %d: peer %d: %d records are there, %d were accepted", crash, peer, delivered[peer], acknowledged[peer])
			}
		}
		if lost := damagedBytes(t, c) - before; lost > 0 {
			t.Errorf("crash %d: %d bytes are called damaged", crash, lost)
		}
		positions = deliverAll(t, c)
	}
	total := 0
	for _, n := range delivered {
		total += n
	}
	t.Logf("%d kills, %d records", crashes, total)
}

// killedChild runs a child, kills it a while after its first word, and returns
// what each peer had accepted.
func killedChild(t *testing.T, dir string, begin []int, after time.Duration) map[int]int {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+dir, "BARNABAS_TEST_BEGIN="+strings.Trim(fmt.Sprint(begin), "[]"))
	child.Stderr = os.Stderr
	output, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	said := map[int]int{}
	kill := time.NewTimer(time.Hour)
	killed := make(chan struct{})
	go func() { <-kill.C; _ = child.Process.Kill(); close(killed) }()
	lines := bufio.NewReader(output)
	for first := true; ; first = false {
		line, err := lines.ReadString('\n')
		if err != nil { // a line that was cut off was not said
			break
		}
		if first {
			kill.Reset(after)
		}
		var peer, n int
		if _, err := fmt.Sscan(line, &peer, &n); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		said[peer] = n + 1
	}
	kill.Reset(0)
	<-killed
	_, _ = io.Copy(io.Discard, output)
	_ = child.Wait() // killed
	return said
}

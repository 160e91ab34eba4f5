// Package broker runs a real Apache Kafka from its Maven jars: clusters of one
// or three brokers on 127.0.0.1, whose brokers can be killed, stopped, paused
// and restarted one by one.
package broker

import (
	"context"
	"crypto/sha256"
	_ "embed" // the list of jars
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"golang.org/x/sys/unix"
)

// JarsVariable is the environment variable that names the folder where Kafka's
// jars are kept, instead of one in the user's cache folder.
const JarsVariable = "BARNABAS_KAFKA_JARS"

// ErrMissing marks an error that says which program has to be installed before
// Kafka can run here.
var ErrMissing = errors.New("a real Kafka needs a program that is not installed")

// lowestJava is the oldest Java that Kafka 4 runs on.
const lowestJava = 17

//go:embed pom.xml
var pom []byte

// Installation is a copy of Apache Kafka's jars and the Java that runs them.
// It is not changed after Install and may be used concurrently.
type Installation struct {
	Version string // Kafka's

	java    string // path of the program
	runtime string // short hash of what java -version prints
	folder  string // holds all of the below
}

// Locate finds Java and the folder for the jars without fetching anything. Its
// error is an ErrMissing when a program is missing: Java 17 or newer, or Maven
// while the jars are not there yet.
func Locate(ctx context.Context) (*Installation, error) {
	version, err := kafkaVersion()
	if err != nil {
		return nil, err
	}
	folder, err := cacheFolder(version)
	if err != nil {
		return nil, err
	}
	i := &Installation{Version: version, folder: folder}
	if err := i.findJava(ctx); err != nil {
		return nil, err
	}
	if i.fetched() {
		return i, nil
	}
	if _, err := exec.LookPath("mvn"); err != nil {
		return nil, fmt.Errorf("%w: mvn (Maven), which fetches Kafka's jars into %s", ErrMissing, folder)
	}
	return i, nil
}

// Install does what Locate does and then makes sure that the jars are there. The
// first call on a machine fetches them with Maven and writes a class-data
// archive, which takes half a minute; processes that do so at the same time wait
// for each other.
func Install(ctx context.Context) (*Installation, error) {
	i, err := Locate(ctx)
	if err != nil {
		return nil, err
	}
	if i.fetched() && i.hasArchive() {
		return i, nil
	}
	unlock, err := lock(filepath.Join(i.folder, ".lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if !i.fetched() {
		if err := i.fetch(ctx); err != nil {
			return nil, err
		}
	}
	if !i.hasArchive() {
		if err := i.writeArchive(ctx); err != nil {
			return nil, err
		}
	}
	return i, nil
}

func (i *Installation) libs() string      { return filepath.Join(i.folder, "libs") }
func (i *Installation) classPath() string { return filepath.Join(i.libs(), "*") }
func (i *Installation) listed() string    { return filepath.Join(i.libs(), "pom.sha256") }

// archive is the path of the class-data archive, which fits one Java only. An
// empty file there says that this Java writes none.
func (i *Installation) archive() string {
	return filepath.Join(i.folder, "classes-"+i.runtime+".jsa")
}

func (i *Installation) fetched() bool {
	sum, err := os.ReadFile(i.listed())
	return err == nil && string(sum) == pomHash()
}

func (i *Installation) hasArchive() bool {
	_, err := os.Stat(i.archive())
	return err == nil
}

// fetch copies the jars into a new folder and then puts it in place whole.
func (i *Installation) fetch(ctx context.Context) error {
	fresh, err := os.MkdirTemp(i.folder, ".fetch-")
	if err != nil {
		return fmt.Errorf("make a folder for Kafka's jars: %w", err)
	}
	defer os.RemoveAll(fresh)
	list, libs := filepath.Join(fresh, "pom.xml"), filepath.Join(fresh, "libs")
	if err := os.WriteFile(list, pom, 0o600); err != nil {
		return fmt.Errorf("write the list of Kafka's jars: %w", err)
	}
	mvn := exec.CommandContext(ctx, "mvn", "--quiet", "--batch-mode", "--file", list,
		"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+libs)
	if output, err := mvn.CombinedOutput(); err != nil {
		return fmt.Errorf("fetch Kafka's jars with Maven: %w\n%s", err, output)
	}
	if err := os.WriteFile(filepath.Join(libs, filepath.Base(i.listed())), []byte(pomHash()), 0o600); err != nil {
		return fmt.Errorf("mark Kafka's jars as complete: %w", err)
	}
	if err := i.clear(); err != nil {
		return fmt.Errorf("remove Kafka's former jars: %w", err)
	}
	if err := os.Rename(libs, i.libs()); err != nil {
		return fmt.Errorf("put Kafka's jars in place: %w", err)
	}
	return nil
}

// clear removes the jars and what was made from them, and nothing else that
// the folder may hold.
func (i *Installation) clear() error {
	archives, err := filepath.Glob(filepath.Join(i.folder, "classes-*.jsa"))
	if err != nil {
		return err
	}
	for _, path := range archives {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return os.RemoveAll(i.libs())
}

// writeArchive lets one broker run and end, and keeps the classes that it
// loaded in a form that the next JVM maps instead of parsing: about two seconds
// of processor time less at every later start of a broker.
func (i *Installation) writeArchive(ctx context.Context) error {
	fresh := i.archive() + ".new"
	cluster, err := launch(ctx, i, Options{}, "-XX:ArchiveClassesAtExit="+fresh, "-Xlog:cds=off", "-Xlog:cds+dynamic=off")
	if err != nil {
		return fmt.Errorf("run Kafka once for its class-data archive: %w", err)
	}
	defer cluster.Close()
	if err := cluster.Stop(1); err != nil {
		return fmt.Errorf("write Kafka's class-data archive: %w", err)
	}
	if _, err := os.Stat(fresh); errors.Is(err, os.ErrNotExist) {
		return os.WriteFile(i.archive(), nil, 0o600)
	}
	return os.Rename(fresh, i.archive())
}

// findJava sets the program and the hash of its version.
func (i *Installation) findJava(ctx context.Context) error {
	i.java = "java"
	if home := os.Getenv("JAVA_HOME"); home != "" {
		i.java = filepath.Join(home, "bin", "java")
	}
	path, err := exec.LookPath(i.java)
	if err != nil {
		return fmt.Errorf("%w: java %d or newer", ErrMissing, lowestJava)
	}
	i.java = path
	output, err := exec.CommandContext(ctx, i.java, "-version").CombinedOutput()
	if err != nil {
		return fmt.Errorf("ask %s for its version: %w\n%s", i.java, err, output)
	}
	major, err := javaMajor(string(output))
	if err != nil {
		return fmt.Errorf("ask %s for its version: %w", i.java, err)
	}
	if major < lowestJava {
		return fmt.Errorf("%w: java %d or newer; %s is %d", ErrMissing, lowestJava, i.java, major)
	}
	sum := sha256.Sum256(output)
	i.runtime = hex.EncodeToString(sum[:6])
	return nil
}

// javaMajor finds the major version in what java -version prints; the oldest
// ones say "1.8" for 8, which is as much too old.
func javaMajor(output string) (int, error) {
	match := regexp.MustCompile(`version "(\d+)`).FindStringSubmatch(output)
	if match == nil {
		return 0, fmt.Errorf("no version in %q", output)
	}
	return strconv.Atoi(match[1])
}

func kafkaVersion() (string, error) {
	var list struct {
		Version string `xml:"properties>kafka.version"`
	}
	if err := xml.Unmarshal(pom, &list); err != nil {
		return "", fmt.Errorf("read Kafka's version in pom.xml: %w", err)
	}
	return list.Version, nil
}

func pomHash() string {
	sum := sha256.Sum256(pom)
	return hex.EncodeToString(sum[:])
}

// cacheFolder makes and names the folder for the jars.
func cacheFolder(version string) (string, error) {
	folder := os.Getenv(JarsVariable)
	if folder == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the cache folder (or set %s): %w", JarsVariable, err)
		}
		folder = filepath.Join(cache, "barnabas-test", "kafka-"+version)
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		return "", fmt.Errorf("find the folder for Kafka's jars: %w", err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("make the folder for Kafka's jars: %w", err)
	}
	return folder, nil
}

// lock waits until no other process holds the file and returns what lets it go.
func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of Kafka's jars: %w", err)
	}
	for {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
	}
	return func() { _ = file.Close() }, nil // closing lets the lock go
}

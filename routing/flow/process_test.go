package flow

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// process is a `lasthop observe` on a host, as it runs there.
type process struct {
	b   *testing.B
	cmd *exec.Cmd
	out *os.File // its report, which it cannot write before it is read
}

// build builds the program.
func build(b *testing.B) (exe string) {
	exe = filepath.Join(b.TempDir(), "lasthop")
	c := exec.Command("go", "build", "-trimpath", "-o", exe, "../../cmd/lasthop")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	return exe
}

// observe starts one, and returns when it looks.
func (s *benchStreet) observe(b *testing.B, exe, conf string, d time.Duration) *process {
	p := &process{b: b, cmd: s.Host.Command(exe, "observe", "-o", "json", "--for", d.String(),
		"--config", "", "--run-dir", b.TempDir(), "-c", conf)}
	out, in, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	size, err := unix.FcntlInt(in.Fd(), unix.F_SETPIPE_SZ, 4096)
	if err == nil {
		_, err = in.Write(make([]byte, size)) // full
	}
	p.cmd.Stdout, p.cmd.Stderr, p.out = in, os.Stderr, out
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	in.Close()
	b.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		out.Close()
	})
	p.wait("look", func() bool { return p.looks() })
	return p
}

// looks reports whether there is a packet socket in its namespace.
func (p *process) looks() bool {
	sockets, err := os.ReadFile(p.file("net/packet"))
	return err == nil && strings.Count(string(sockets), "\n") > 1
}

func (p *process) file(name string) string {
	return fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, name)
}

// wait waits at most a minute.
func (p *process) wait(what string, done func() bool) {
	for end := time.Now().Add(time.Minute); !done(); {
		if time.Now().After(end) {
			p.b.Fatalf("lasthop does not %s", what)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// share is its share of a core during a time, in percent.
func (p *process) share(d time.Duration) float64 {
	before, begun := processTime(p.b, p.cmd.Process.Pid), time.Now()
	<-time.After(d)
	used := processTime(p.b, p.cmd.Process.Pid) - before
	return 100 * used.Seconds() / time.Since(begun).Seconds()
}

// end waits until it has looked and wants to write its report. It returns the
// largest memory that it had till then, in MiB, and the sampling.
func (p *process) end() (peak float64, s routing.Sampling) {
	p.wait("end", func() bool { return !p.looks() })
	p.wait("rest", func() bool { return p.share(time.Second) == 0 })
	status, err := os.ReadFile(p.file("status"))
	if err != nil {
		p.b.Fatal(err)
	}
	_, text, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscan(text, &peak); err != nil {
		p.b.Fatal(err)
	}
	out, err := io.ReadAll(p.out)
	if err != nil {
		p.b.Fatal(err)
	}
	var r struct{ Sampling routing.Sampling }
	if err := json.Unmarshal([]byte(strings.TrimLeft(string(out), "\x00")), &r); err != nil {
		p.b.Fatal(err)
	}
	return peak / 1024, r.Sampling
}

// BenchmarkObserve is the part of a core that `lasthop observe` takes: idle,
// and during 10,000 new connections a second.
func BenchmarkObserve(b *testing.B) {
	exe := build(b)
	for _, rate := range []float64{0, 10_000} {
		b.Run(fmt.Sprint(rate), func(b *testing.B) {
			const windows, window = 6, 5 * time.Second
			s := newBenchStreet(b)
			n := s.nginx(b)
			p := s.observe(b, exe, n.conf, windows*window+5*time.Second)
			c := clients{from: s.Client, to: "10.7.0.10:80", n: 16, rate: rate}
			var shares, rates []float64
			for range windows {
				answered := make(chan int, 1)
				if rate > 0 {
					go func() { answered <- c.ask(window) }()
				} else {
					answered <- 0
				}
				shares = append(shares, p.share(window))
				rates = append(rates, float64(<-answered)/window.Seconds())
			}
			_, sampling := p.end()
			report(b, shares, "%cpu")
			report(b, rates, "conn/s")
			b.Logf("%s %% of a core with %s connections a second, %+v",
				spread(shares, "%.2f"), spread(rates, "%.0f"), sampling)
		})
	}
}

// BenchmarkMemory is the largest memory of `lasthop observe` while a flood
// fills its table again and again.
func BenchmarkMemory(b *testing.B) {
	exe := build(b)
	var peaks []float64
	var sampling routing.Sampling
	for range max(b.N, 3) {
		s := newBenchStreet(b)
		n := s.nginx(b)
		ctx, cancel := context.WithCancel(context.Background())
		var all sync.WaitGroup
		for _, flags := range []byte{flagSYN, flagACK} {
			x := newSpoofer(b, s.Street, flags)
			all.Go(func() { x.send(ctx, 20_000) })
		}
		all.Go(func() { n.ask.ask(20 * time.Second) })
		var peak float64
		peak, sampling = s.observe(b, exe, n.conf, 30*time.Second).end()
		cancel()
		all.Wait()
		if sampling.Evicted == 0 {
			b.Errorf("the table did not fill: %+v", sampling)
		}
		peaks = append(peaks, peak)
	}
	report(b, peaks, "MiB")
	b.Logf("%s MiB, %+v", spread(peaks, "%.1f"), sampling)
}

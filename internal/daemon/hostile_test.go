package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// intruder is a user of the host, in a process of its own, with the test's
// instructions. What it did goes to stdout, a line of JSON, when stdin ends.
type intruder struct {
	UID     uint32
	Kinds   []string // of hostilities
	Dir     string   // its own
	Socket  string   // of the daemon
	Metrics string   // an address; "" for none
	Secret  string   // a file whose contents it must not learn
	Conf    string   // NGINX's
	Words   []string // of secrets
}

// hostilities are what an intruder does. Each is a round of a few seconds at
// most, which returns how much it did, and for a spy what it found.
var hostilities = map[string]func(context.Context, *intruder) (int, error){
	"masters": masters, "holding": holding, "slow scrapes": slowScrapes,
	"inotify": instances, "processes": processes, "listening": listensToo, "spying": spying,
}

// hostile is the process.
func hostile() {
	var u intruder
	if err := json.Unmarshal([]byte(os.Args[1]), &u); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); cancel() }()
	var tasks sync.WaitGroup
	counts := make([]int, len(u.Kinds))
	for n, kind := range u.Kinds {
		tasks.Go(func() {
			for ctx.Err() == nil {
				did, err := hostilities[kind](ctx, &u)
				if counts[n] += did; err != nil && ctx.Err() == nil {
					fmt.Fprintf(os.Stderr, "%s: %v\n", kind, err)
				}
			}
		})
	}
	tasks.Wait()
	fmt.Println(strings.Trim(fmt.Sprint(counts), "[]"))
	os.Exit(0)
}

// intrude starts an intruder. The function that it returns ends it, and returns
// how much of each kind it did and its complaints.
func (s *server) intrude(u intruder) (pid int, end func() (did []int, said string)) {
	s.t.Helper()
	text, err := json.Marshal(u)
	if err != nil {
		s.t.Fatal(err)
	}
	c := exec.Command("/proc/self/exe")
	c.Args = []string{"lasthop-hostile", string(text)}
	c.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: u.UID, Gid: u.UID}}
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	in, err := c.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	s.Do(func() { err = c.Start() })
	if err != nil {
		s.t.Fatal(err)
	}
	end = sync.OnceValues(func() (did []int, said string) {
		in.Close()
		if err := c.Wait(); err != nil {
			s.t.Errorf("an intruder: %v", err)
		}
		for word := range strings.FieldsSeq(stdout.String()) {
			n := 0
			_, _ = fmt.Sscan(word, &n)
			did = append(did, n)
		}
		return did, stderr.String()
	})
	s.t.Cleanup(func() { end() })
	return c.Process.Pid, end
}

// masters runs processes that are titled as NGINX's masters. Their program is
// huge, their titles are long, and their configurations are the intruder's own,
// links to root's secret and to endless files, and NGINX's.
func masters(ctx context.Context, u *intruder) (int, error) {
	exe, confs := filepath.Join(u.Dir, "m"), []string{u.Conf}
	if _, err := os.Stat(exe); err != nil {
		sleep, err := os.ReadFile("/bin/sleep")
		err = errors.Join(err, os.WriteFile(exe, sleep, 0o755), os.Truncate(exe, 250<<20))
		if err != nil {
			return 0, err
		}
	}
	for n, to := range []string{"", u.Secret, "/dev/zero", "/proc/kmsg"} {
		conf := fmt.Sprintf("%s/x%d.conf", u.Dir, n)
		confs = append(confs, conf)
		if to != "" {
			_ = os.Symlink(to, conf)
			continue
		}
		err := os.WriteFile(conf, []byte("events {} http { server { listen "+
			"10.0.2.200:8080; } }"), 0o644)
		if err != nil {
			return 0, err
		}
	}
	_ = unix.Mkfifo(u.Dir+"/x9.conf", 0o644)
	confs = append(confs, u.Dir+"/x9.conf")
	return crowd(ctx, 20, time.Millisecond, func(n int) *exec.Cmd {
		c := exec.CommandContext(ctx, exe)
		c.Args = []string{"nginx: master process nginx -c " + confs[n%len(confs)] +
			strings.Repeat(" x", n%2*50000), "4"}
		return c
	})
}

// processes come and go, some of them titled as workers.
func processes(ctx context.Context, _ *intruder) (int, error) {
	return crowd(ctx, 100, 5*time.Millisecond, func(n int) *exec.Cmd {
		c := exec.CommandContext(ctx, "/bin/true")
		c.Args = []string{[]string{"true", "nginx: worker process"}[n%2]}
		return c
	})
}

// crowd starts n processes, one every so often, and waits for their ends.
func crowd(ctx context.Context, n int, every time.Duration,
	one func(int) *exec.Cmd) (int, error) {
	var wait sync.WaitGroup
	defer wait.Wait()
	for i := range n {
		c := one(i)
		if err := c.Start(); err != nil {
			return i, err
		}
		wait.Go(func() { _ = c.Wait() })
		pause(ctx, every)
	}
	return n, nil
}

// connect connects with a small buffer for what comes back.
func connect(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: time.Second,
		Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF,
					2048)
			})
		}}
	if network == "tcp" {
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(os.Getuid()))}
	}
	return d.DialContext(ctx, network, addr)
}

// holding holds connections: silent ones, half requests, and whole ones whose
// answers it does not read.
func holding(ctx context.Context, u *intruder) (int, error) {
	const whole = "GET /status HTTP/1.1\r\nHost: x\r\n"
	said := []string{"", whole, whole + "\r\n", whole + "Accept: " + gobType + "\r\n\r\n"}
	held := 0
	for n := range 300 {
		c, err := connect(ctx, "unix", u.Socket)
		if err != nil {
			break
		}
		defer c.Close()
		if _, err := io.WriteString(c, said[n%len(said)]); err == nil {
			held++
		}
	}
	pause(ctx, 3*time.Second)
	return held, nil
}

// slowScrapes reads the metrics, a byte at a time.
func slowScrapes(ctx context.Context, u *intruder) (int, error) {
	if u.Metrics == "" {
		pause(ctx, time.Second)
		return 0, nil
	}
	held := 0
	var all sync.WaitGroup
	var read atomic.Int64
	for range 12 {
		c, err := connect(ctx, "tcp", u.Metrics)
		if err != nil {
			break
		}
		held++
		all.Go(func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(8 * time.Second))
			_, err := io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: [::1]\r\n\r\n")
			for b := make([]byte, 1); err == nil && ctx.Err() == nil; {
				var n int
				n, err = c.Read(b)
				read.Add(int64(n))
				pause(ctx, 50*time.Millisecond)
			}
		})
	}
	all.Wait()
	return int(read.Load()), nil
}

// instances takes all instances of inotify that it can get.
func instances(ctx context.Context, _ *intruder) (int, error) {
	var list []int
	for len(list) < 1<<14 {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		if err != nil {
			break
		}
		list = append(list, fd)
	}
	<-ctx.Done()
	return len(list), nil
}

// listensToo listens on NGINX's port at other addresses, and where NGINX does
// not.
func listensToo(ctx context.Context, _ *intruder) (int, error) {
	open := 0
	for _, at := range []string{"tcp4 127.0.0.1:8080", "tcp4 10.0.0.10:8080",
		"tcp4 10.0.2.10:8080", "tcp6 [::]:8080", "udp4 0.0.0.0:8080", "udp4 10.0.2.100:8081",
		"udp6 [::]:8081"} {
		network, addr, _ := strings.Cut(at, " ")
		var c io.Closer
		var err error
		if strings.HasPrefix(network, "tcp") {
			c, err = net.Listen(network, addr)
		} else {
			c, err = net.ListenPacket(network, addr)
		}
		if err != nil {
			return open, err
		}
		defer c.Close()
		open++
	}
	pause(ctx, 2*time.Second)
	return open, nil
}

// spying reads all answers that it gets, and looks for secrets in them.
func spying(ctx context.Context, u *intruder) (int, error) {
	got := 0
	var leaks []error
	for _, where := range []string{"unix /status */*", "unix /status " + gobType,
		"unix /healthz *", "tcp /metrics *", "tcp /healthz *"} {
		f := strings.Fields(where)
		addr := map[string]string{"unix": u.Socket, "tcp": u.Metrics}[f[0]]
		if addr == "" {
			continue
		}
		answer, err := ask(ctx, f[0], addr, f[1], f[2])
		if err != nil {
			continue // the daemon has no room for it now
		}
		got++
		for _, w := range u.Words {
			if i := bytes.Index(answer, []byte(w)); i >= 0 {
				leaks = append(leaks, fmt.Errorf("%s tells %q: %q", where, w,
					answer[max(0, i-99):min(len(answer), i+99)]))
			}
		}
	}
	pause(ctx, 100*time.Millisecond)
	return got, errors.Join(leaks...)
}

// ask returns a whole answer that is no "too many connections".
func ask(ctx context.Context, network, addr, path, accept string) ([]byte, error) {
	c, err := connect(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: %s\r\n\r\n", path,
		accept)
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && strings.Contains(string(body), "too many connections") {
		err = errors.New("no room")
	}
	return body, err
}

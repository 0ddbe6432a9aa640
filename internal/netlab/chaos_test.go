package netlab

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lasthop/internal/nstest"
)

// This file is about what happens to lasthop itself while the host changes: it
// is killed, starved, has no room for its files, is asked too much, is lied to.
// The network is the oracle here, too.

// TestChaos: a daemon guards random networks, and the events hit the daemon
// itself, too.
func TestChaos(t *testing.T) { testEvents(t, 1, sabotage{chaos: true}) }

// abuse is something that happens to lasthop around an event.
type abuse struct {
	name string
	// all means that any request may be lost meanwhile: rules are deleted,
	// or no daemon follows the event.
	all bool
	do  func(g *guard, steps func() error, wait time.Duration) error
}

var abuses = []abuse{
	{"lasthop is killed after it", true, killedAfter},
	{"lasthop is killed before it", true, killedBefore},
	{"lasthop is stopped meanwhile", true, starved},
	{"an apply by hand", false, byCommand("apply", false)},
	{"a clear by hand", true, byCommand("clear", false)},
	{"its run directory is removed, and an apply by hand", false, byCommand("apply", true)},
	{"its run directory is removed, and a clear by hand", true, byCommand("clear", true)},
	{"its run directory is removed", false, (*guard).noRunDir},
	{"its run directory has no room", false, (*guard).fullRunDir},
	{"nginx.conf is torn", false, (*guard).torn},
	{"10,000 routes that decide nothing", false, (*guard).routes},
	{"a user holds connections to its socket", false, (*guard).held},
	{"a user's processes are titled as NGINX's", false, (*guard).titles},
	{"SIGHUP", false, (*guard).signals},
}

// amid returns an event with an abuse around it.
func (e Event) amid(a abuse, r *rand.Rand) Event {
	wait := time.Duration(r.IntN(1500)) * time.Millisecond
	e.Name = a.name + ", with it " + e.Name
	if a.all {
		e.touches = anyRequest
	}
	e.around = func(g *guard, steps func() error) error { return a.do(g, steps, wait) }
	return e
}

// restart starts the daemon as its unit does, a moment after it has ended.
func (g *guard) restart() error {
	<-g.ended
	time.Sleep(100 * time.Millisecond)
	return g.launch()
}

func killedAfter(g *guard, steps func() error, wait time.Duration) error {
	if err := steps(); err != nil {
		return err
	}
	time.Sleep(wait / 15)
	g.daemon.Process.Kill()
	return g.restart()
}

func killedBefore(g *guard, steps func() error, wait time.Duration) error {
	g.daemon.Process.Kill()
	time.Sleep(wait / 3)
	return errors.Join(steps(), g.restart())
}

// starved stops the daemon for so long that netlink's and proc's events may be
// lost.
func starved(g *guard, steps func() error, wait time.Duration) error {
	g.daemon.Process.Signal(syscall.SIGSTOP)
	defer g.daemon.Process.Signal(syscall.SIGCONT)
	if err := steps(); err != nil {
		return err
	}
	time.Sleep(wait)
	return nil
}

// byCommand runs a command of lasthop at the same time. The command refuses to
// work against a daemon; with forget it does not know of the daemon. Then clear
// removes everything, and the daemon begins again. It leaves this out if
// forwarding has begun: lasthop handles that differently at its start than
// later.
func byCommand(name string, forget bool) func(*guard, func() error, time.Duration) error {
	return func(g *guard, steps func() error, wait time.Duration) error {
		args := []string{name}
		if name == "apply" {
			args = append(args, "-c", g.dir+"/nginx.conf")
		}
		if forget && name == "clear" && g.course.inside {
			return steps()
		}
		if forget {
			if err := os.RemoveAll(g.dir + "/run"); err != nil {
				return err
			}
		}
		done := make(chan error, 1)
		go func() {
			time.Sleep(wait / 10)
			_, code, err := g.lasthop(g.bin, g.dir, args...)
			if code >= 0 {
				err = nil
			}
			done <- err
		}()
		return errors.Join(steps(), <-done)
	}
}

func (g *guard) noRunDir(steps func() error, wait time.Duration) error {
	if err := os.RemoveAll(g.dir + "/run"); err != nil {
		return err
	}
	defer time.Sleep(wait)
	return steps()
}

// fullRunDir takes all room in the file system of the run directory for a
// while: a small one is mounted over it, in the daemon's own mount namespace.
func (g *guard) fullRunDir(steps func() error, wait time.Duration) error {
	const fill = `mount -t tmpfs -o size=4k,nr_inodes=1 none "$0"`
	if err := g.inside(fill, g.dir+"/run"); err != nil {
		return err
	}
	err := steps()
	time.Sleep(wait)
	return errors.Join(err, g.inside(`umount -l "$0"`, g.dir+"/run"))
}

// inside runs a script in the namespaces of the daemon.
func (g *guard) inside(script string, args ...string) error {
	pid := fmt.Sprint(g.daemon.Process.Pid)
	c := exec.Command("nsenter", append([]string{"-t", pid, "-m", "-p", "/bin/sh", "-c",
		script}, args...)...)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", script, err, out)
	}
	return nil
}

// torn leaves a part of nginx.conf for a moment: it cannot be read.
func (g *guard) torn(steps func() error, wait time.Duration) error {
	file := g.dir + "/nginx.conf"
	whole := []byte(g.Host.Conf)
	end := bytes.LastIndexByte(whole, '}')
	if err := os.WriteFile(file, whole[:end], 0o644); err != nil {
		return err
	}
	err := steps()
	time.Sleep(wait)
	return errors.Join(err, os.WriteFile(file, whole, 0o644))
}

// routes come and go in a table that no rule leads to.
func (g *guard) routes(steps func() error, _ time.Duration) error {
	var add strings.Builder
	for i := range 10000 {
		fmt.Fprintf(&add, "route add unreachable 10.66.%d.%d table 9200\n", i/256, i%256)
	}
	err := g.built.run(host, add.String(), "ip", "-batch", "-")
	return errors.Join(err, steps(),
		g.built.run(host, "route flush table 9200\n", "ip", "-batch", "-"))
}

// held opens connections to the socket and does not read from them.
func (g *guard) held(steps func() error, wait time.Duration) error {
	var list []net.Conn
	defer func() {
		for _, c := range list {
			c.Close()
		}
	}()
	sockets, _ := filepath.Glob(g.dir + "/run/netns-*.sock")
	for range 300 {
		if len(sockets) == 0 {
			break
		}
		c, err := net.DialTimeout("unix", sockets[0], 100*time.Millisecond)
		if err != nil {
			break // the daemon takes no more, or is not there now
		}
		fmt.Fprint(c, "GET /status HTTP/1.1\r\nHost: lasthop\r\n\r\n")
		list = append(list, c)
	}
	err := steps()
	time.Sleep(wait)
	return err
}

// titles runs processes of a user in the daemon's view, with the titles of
// masters.
func (g *guard) titles(steps func() error, wait time.Duration) error {
	pid := fmt.Sprint(g.daemon.Process.Pid)
	const script = `for i in 1 2 3 4 5 6 7 8 9 10; do
 setpriv --reuid=65534 --regid=65534 --clear-groups bash -c 'exec -a "nginx: master process $0" sleep 10' "$0" &
done; wait`
	c := exec.Command("nsenter", "-t", pid, "-m", "-p", "-n", "/bin/sh", "-c", script,
		g.dir+"/nginx.conf "+strings.Repeat("x ", 3000))
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		return err
	}
	err := steps()
	time.Sleep(wait)
	syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
	c.Wait()
	return err
}

func (g *guard) signals(steps func() error, wait time.Duration) error {
	g.daemon.Process.Signal(syscall.SIGHUP)
	err := steps()
	time.Sleep(nstest.Patience(wait / 10))
	g.daemon.Process.Signal(syscall.SIGHUP)
	return err
}

package survey

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"lasthop/internal/hint"
	"lasthop/internal/nstest"
	"lasthop/nginxconf"
)

// startTitled starts a process with the title of a master that runs with conf.
// It ends with the test.
func startTitled(t *testing.T, ns *nstest.NS, conf string, as ...string) (pid int) {
	t.Helper()
	c := ns.Command(append(as, "/bin/bash", "-c",
		"echo up; exec -a 'nginx: master process nginx -c "+conf+"' /bin/cat")...)
	stdin, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); _ = c.Wait() })
	if _, err := io.ReadFull(stdout, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if _, err := stdin.Write([]byte("x")); err != nil { // cat answers, so that exec is done
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stdout, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return c.Process.Pid
}

// TestNotRoot: a user is told of sudo, and root of capabilities alone.
func TestNotRoot(t *testing.T) {
	m := nginxconf.Master{PID: 7, Conf: "/a.conf", Unverified: errors.New("denied")}
	err := Hidden(&nginxconf.Error{File: m.Conf, Err: fs.ErrNotExist}, []nginxconf.Master{m})
	for uid, sudo := range map[int]bool{0: false, 1000: true} {
		if got := unverified(m, uid); strings.Contains(got, "sudo") != sudo {
			t.Errorf("user %d: %s", uid, got)
		}
		e := withSudo(err, uid)
		got := hint.Of(e)
		if strings.HasPrefix(got, "run it with sudo, or give lasthop ") != sudo ||
			e.Error() != err.Error() {
			t.Errorf("user %d: %v (%s)", uid, e, got)
		}
	}
}

// TestMastersOfUsers: a user's process does not count on this host, whatever
// its title is. A configuration that was named may be a user's, but not where
// root's NGINX runs with it. In a namespace that was named everybody counts.
func TestMastersOfUsers(t *testing.T) {
	ns := nstest.New(t)
	theirs := startTitled(t, ns, "/a.conf", nstest.Nobody(t)...)
	pids := func(netns string, confs ...string) (out []int) {
		ns.Do(func() {
			masters, _, err := Masters(netns, confs, &nginxconf.Programs{})
			if err != nil {
				t.Error(err)
			}
			for _, m := range masters {
				out = append(out, m.PID)
			}
		})
		return out
	}
	want := func(what string, got []int, want ...int) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	want("nothing named", pids(""))
	want("a configuration named", pids("", "/a.conf"), theirs)
	want("the namespace named", pids(ns.Path)) // it is lasthop's at the moment
	masters, _, err := Masters(ns.Path, nil, nil)
	if err != nil || len(masters) != 1 || masters[0].PID != theirs || masters[0].Trusted() {
		t.Errorf("of a named namespace: %+v, %v, want %d", masters, err, theirs)
	}
	roots := startTitled(t, ns, "/a.conf")
	want("root's too, nothing named", pids(""), roots)
	want("root's too, a configuration named", pids("", "/a.conf"), roots)
}

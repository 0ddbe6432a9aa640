package daemon

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lasthop/routing"
)

// stopped is a server with an include at which NGINX stops while it reads: for
// a moment it is a FIFO, which NGINX waits to open. lasthop reads what is there
// otherwise.
type stopped struct {
	*server
	conf func(more string) // writes nginx.conf, with a listener more
}

// gates are the places of the include.
var gates = map[string]string{
	"before the listeners":  "GATE server { listen 10.0.1.100:80; MORE return 204; }",
	"between the listeners": "server { listen 10.0.1.100:80; GATE MORE return 204; }",
	"after the listeners":   "server { listen 10.0.1.100:80; MORE return 204; } GATE",
}

const (
	moreListens = "listen 10.0.2.100:80;"
	notLoaded   = "listen 10.0.1.101:80;"
)

// newStopped starts NGINX and the daemon. place is one of gates.
func newStopped(t *testing.T, place string, detector func(*Options)) *stopped {
	t.Helper()
	g := &stopped{server: newServer(t)}
	g.conf = func(more string) {
		text := strings.Replace(place, "MORE", more, 1)
		text = strings.Replace(text, "GATE", "include "+g.File("gate.conf")+";", 1)
		g.Replace(g.Head() + "events {} http { access_log off; " + text + " }")
	}
	if err := syscall.Mkfifo(g.File("fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	g.place(func(name string) error { return os.WriteFile(name, nil, 0o644) })
	g.conf("")
	g.StartNginx()
	g.start(detector)
	return g
}

// place replaces what is included.
func (g *stopped) place(write func(name string) error) {
	g.t.Helper()
	err := errors.Join(write(g.File("gate.new")),
		os.Rename(g.File("gate.new"), g.File("gate.conf")))
	if err != nil {
		g.t.Fatal(err)
	}
}

// stop makes NGINX load, and stops it as it reads. The function that it returns
// lets it go on.
func (g *stopped) stop() (release func()) {
	g.t.Helper()
	g.place(func(name string) error { return os.Link(g.File("fifo"), name) })
	g.Reload()
	g.Until("NGINX to have its file open", func() bool {
		files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.PID()))
		return slices.ContainsFunc(files, func(f os.DirEntry) bool {
			to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", g.PID(), f.Name()))
			return to == g.File("nginx.conf")
		})
	})
	pause(g.t.Context(), 50*time.Millisecond)
	g.place(func(name string) error { return os.WriteFile(name, nil, 0o644) })
	return func() {
		g.t.Helper()
		f, err := os.OpenFile(g.File("fifo"), os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			g.t.Fatalf("NGINX does not wait: %v", err)
		}
		f.Close()
	}
}

// stops are what happens to the files while NGINX is stopped.
var stops = []struct {
	name string
	do   func(*stopped)
}{
	{"nothing", func(*stopped) {}},
	{"an edit", func(g *stopped) { g.conf(notLoaded) }},
	{"an edit, taken back", func(g *stopped) { g.conf(""); g.quiet(); g.conf(moreListens) }},
	{"emptied", func(g *stopped) { g.Replace("") }},
	{"emptied, and back", func(g *stopped) { g.Replace(""); g.quiet(); g.conf(moreListens) }},
	{"the include is gone", func(g *stopped) { _ = os.Remove(g.File("gate.conf")) }},
}

// TestRunStopped: the files are torn at each point of NGINX's reading, at which
// the test stops NGINX. Meanwhile what another program deletes comes back; what
// NGINX has read has its way and keeps it; and after a load that nothing tears
// the daemon follows the files again.
func TestRunStopped(t *testing.T) {
	for place, text := range gates {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			eachDetector(t, func(t *testing.T, detector func(*Options)) {
				g := newStopped(t, text, detector)
				for _, s := range stops {
					g.tear(s.name, s.do)
				}
			})
		})
	}
}

// tear is one load that is torn, and one that is not.
func (g *stopped) tear(name string, do func(*stopped)) {
	g.t.Helper()
	g.conf(moreListens)
	g.quiet()
	before, want := g.workers(), g.owned()
	release := g.stop()
	do(g)
	g.deleteOwned()
	g.Until(name+": all to be back", func() bool { return cmp.Diff(want, g.owned()) == "" })
	g.d.pardon(g.t.(*testing.T))
	if !slices.Equal(before, g.workers()) {
		g.t.Errorf("%s: NGINX has forked: this shows nothing", name)
	}
	release()
	g.Until(name+": NGINX to listen", func() bool { return g.serves("10.0.2.100:80") })
	g.Until(name+": the way of what it has read",
		func() bool { return has(g.owned(), "from 10.0.2.") })
	g.keeps(name)
	if slices.ContainsFunc(g.status().Plan.Outcomes, func(o routing.Outcome) bool {
		return o.Addr.String() == "10.0.1.101"
	}) {
		g.t.Errorf("%s: the plan has what NGINX does not serve", name)
	}
	g.place(func(name string) error { return os.WriteFile(name, nil, 0o644) })
	g.conf("")
	g.quiet()
	g.Reload()
	g.Until(name+": peace", func() bool {
		return !has(g.owned(), "from 10.0.2.") && g.status().InSync &&
			!g.says("not-loaded", "") && !g.says("config-broken", "")
	})
}

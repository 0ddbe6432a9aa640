package daemon

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/routing"
)

var (
	siegeFor = flag.Duration("siege", 3*time.Second, "how long TestBesieged goes on, "+
		"with each way to notice reloads")
	siegeListens = flag.Int("siege-listeners", 400, "of NGINX, in TestBesieged")
	siegeStrict  = flag.Bool("strict", false, "TestBesieged fails for what takes longer "+
		"than it may on a machine that has nothing else to do")
)

// The bounds of the daemon's resources while it is besieged, on such a machine.
const (
	loadWithin = time.Second
	healWithin = 200 * time.Millisecond
	siegeMiB   = 128 // of memory
)

// siege is a busy host, on which other users do what they can against a daemon
// that is a process of its own.
type siege struct {
	*server
	p       process
	metrics string
	listens string   // of many listeners
	words   []string // of secrets
	peak    float64  // of the daemon's memory, in MiB
	loads   []time.Duration
	heals   []time.Duration
}

const (
	secretWord  = "5ec4e71n"
	theirsAddr  = "10.0.2.200" // what another user's configuration listens on
	siegeListen = "10.0.2.100:8080"
)

// newSiege makes a host with many listeners and routes, and with files that
// root alone may read.
func newSiege(t *testing.T) *siege {
	t.Helper()
	g := &siege{server: newServer(t)}
	g.Lines("addr add " + theirsAddr + "/24 dev eth2")
	g.listens = g.many(*siegeListens)
	var routes strings.Builder // which the path's table copies
	for n := range *siegeListens {
		fmt.Fprintf(&routes, "route add 20.0.%d.%d/32 via 10.0.1.1 dev eth1\n", n>>8, n&255)
	}
	g.Lines(routes.String())
	files := map[string]string{
		"secret.conf": "set $pin \"" + secretWord + "\";\n",
		"shadow":      "root:" + secretWord + ":20228:0:99999:7:::\n"}
	g.words = []string{secretWord, g.File("nginx.conf")}
	for name, text := range files {
		if err := os.WriteFile(g.File(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		g.words = append(g.words, name, fmt.Sprintf("%x", sha256.Sum256([]byte(text))))
	}
	if err := os.Mkdir(g.File("theirs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(g.File("theirs"), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	g.write("")
	return g
}

// write writes an nginx.conf for root alone, with more directives of a server.
func (g *siege) write(more string) {
	g.t.Helper()
	// never readable, not for a moment
	if err := os.WriteFile(g.File("new"), nil, 0o600); err != nil {
		g.t.Fatal(err)
	}
	g.Replace(fmt.Sprintf("worker_rlimit_nofile 65536;\n%sevents { worker_connections 30000; "+
		"}\nhttp { access_log off; server {\nlisten 10.0.1.100:8080;\n%s%s\n"+
		"include %s;\nreturn 200 ok;\n} }\n", g.Head(), g.listens, more,
		g.File("secret.conf")))
}

// startDaemon starts the daemon in the namespace, as on a host of its own, or
// outside of it, where it has the proc connector.
func (g *siege) startDaemon(inside bool) {
	g.t.Helper()
	if !inside {
		g.p = g.startProcess(false)
		return
	}
	g.metrics = "127.0.0.1:9176"
	yaml := g.File("lasthop.yaml")
	err := os.WriteFile(yaml, []byte("metrics: {listen: \""+g.metrics+"\"}\n"), 0o644)
	if err != nil {
		g.t.Fatal(err)
	}
	g.p = g.launch(true, nil, "--config", yaml)
}

// TestBesieged: other users of the host do all that they can together, while
// NGINX is reloaded, the host changes and rules are deleted. Loads are followed
// and rules come back; memory is bounded; no secret is revealed, and the plan
// contains nothing of these users.
func TestBesieged(t *testing.T) {
	nstest.Nobody(t)
	for _, inside := range []bool{true, false} {
		t.Run(map[bool]string{false: "connector", true: "children"}[inside],
			func(t *testing.T) {
				g := newSiege(t)
				g.StartNginx()
				g.startDaemon(inside)
				g.besieged()
			})
	}
}

// besieged is the time of the siege, and its results.
func (g *siege) besieged() {
	g.t.Helper()
	end := g.begin()
	rounds := 0
	for from := time.Now(); time.Since(from) < *siegeFor || rounds < 3; rounds++ {
		g.round(rounds)
	}
	end()
	g.Until("peace", func() bool { return g.p.status().InSync })
	g.peak = max(g.peak, g.p.memory("VmHWM"))
	g.t.Logf("%d rounds; from NGINX's socket to its way: %s; a deleted rule is back: %s; "+
		"%.0f MiB at the peak; load %s", rounds, spread(g.loads), spread(g.heals), g.peak,
		loadAverage())
	if g.peak > siegeMiB {
		g.t.Errorf("%.0f MiB, want %d at most", g.peak, siegeMiB)
	}
	if *siegeStrict && (slices.Max(g.loads) > loadWithin || slices.Max(g.heals) > healWithin) {
		g.t.Errorf("want %v and %v at most", loadWithin, healWithin)
	}
}

// begin starts the other users. The function that it returns ends them, and
// wants that each has done something, and that none has seen a secret.
func (g *siege) begin() (end func()) {
	g.t.Helper()
	one := intruder{UID: 65534, Dir: g.File("theirs"), Metrics: g.metrics,
		Socket: SocketPath(g.File("run"), g.kernel.Inode()), Words: g.words,
		Conf: g.File("nginx.conf"), Secret: g.File("secret.conf"),
		Kinds: []string{"masters", "holding", "inotify", "processes", "listening"}}
	if g.metrics != "" {
		one.Kinds = append(one.Kinds, "slow scrapes")
	}
	two := one
	two.UID, two.Kinds = 65533, []string{"spying"}
	_, endOne := g.intrude(one)
	_, endTwo := g.intrude(two)
	return func() {
		did, said := endOne()
		got, leaks := endTwo()
		g.t.Logf("%q: %v; answers that were searched: %v", one.Kinds, did, got)
		if slices.Contains(append(did, got...), 0) || len(did) != len(one.Kinds) {
			g.t.Errorf("too little was done to prove anything: %s", said)
		}
		if leaks != "" {
			g.t.Errorf("secrets are told: %s", leaks)
		}
	}
}

// round is a load, a change of the host and a deleted rule.
func (g *siege) round(n int) {
	g.t.Helper()
	on := n%2 == 0
	verb, more := "del", ""
	if on {
		verb, more = "add", "listen "+siegeListen+";"
	}
	g.Lines("route " + verb + " 198.51.100.0/24 via 10.0.0.7 dev eth0 table 500\n" +
		"addr " + verb + " 10.0.1.97/24 dev eth1")
	g.write(more)
	pause(g.t.Context(), 100*time.Millisecond)
	g.Reload()
	if on {
		g.loads = append(g.loads, g.loaded())
	} else {
		g.Until("the old listener's way to go", func() bool {
			return !has(g.ownedRules(), "from 10.0.2.")
		})
	}
	if n%5 == 1 {
		g.write("include " + g.File("shadow") + ";")
		g.Reload()
		g.Until("the finding", func() bool { return g.p.finds("config-broken") })
		g.write("")
	}
	g.heals = append(g.heals, g.healed(n))
	g.peak = max(g.peak, g.p.memory("VmRSS"))
	st := g.p.status()
	if st.Counts.Syncs == 0 {
		g.t.Error("root gets no answer")
	}
	for _, o := range st.Plan.Outcomes {
		if o.Addr.String() == theirsAddr {
			g.t.Errorf("another user's listener is in the plan: %+v", o.Listener)
		}
	}
	for _, m := range st.Masters {
		if m.PID != g.PID() {
			g.t.Errorf("another user's NGINX is followed: %+v", m)
		}
	}
	pause(g.t.Context(), calm) // else it is a fight
}

// loaded returns the time from the moment that NGINX is seen to listen to the
// moment that its replies have their way.
func (g *siege) loaded() (took time.Duration) {
	g.t.Helper()
	var open time.Time
	g.Until("the new listener's way", func() bool {
		if open.IsZero() && g.serves(siegeListen) {
			open = time.Now()
		}
		if !has(g.ownedRules(), "from 10.0.2.") {
			return false
		}
		if !open.IsZero() {
			took = time.Since(open)
		}
		return true
	})
	return took
}

// healed deletes a rule of a listener that stays, and returns the time until it
// is back.
func (g *siege) healed(n int) time.Duration {
	g.t.Helper()
	o, err := g.kernel.ReadOwned(routing.DefaultNumbers)
	if err != nil {
		g.t.Fatal(err)
	}
	rules := slices.DeleteFunc(o.Rules, func(r routing.Rule) bool {
		return !strings.HasPrefix(r.From.String(), "10.0.1.")
	})
	if len(rules) == 0 {
		g.t.Fatal("no rule to delete")
	}
	one := rules[n%len(rules)]
	op := routing.Compare(routing.State{Rules: []routing.Rule{one}}, routing.State{}).Ops()[0]
	g.Run(strings.Fields(op.String())...)
	start := time.Now()
	g.Until(one.String()+" to be back", func() bool {
		o, err := g.kernel.ReadOwned(routing.DefaultNumbers)
		return err == nil && slices.Contains(o.Rules, one)
	})
	return time.Since(start)
}

// spread is how times are distributed.
func spread(times []time.Duration) string {
	if len(times) == 0 {
		return "never"
	}
	slices.Sort(times)
	at := func(q float64) time.Duration {
		return times[int(q*float64(len(times)-1))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("p50 %v, p90 %v, p99 %v, max %v of %d", at(.5), at(.9), at(.99), at(1),
		len(times))
}

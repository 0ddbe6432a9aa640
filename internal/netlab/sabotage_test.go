package netlab

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// sabotages are faults of a daemon that the oracle has to find.
var sabotages = map[string]struct {
	kind string
	sabotage
}{
	"killed before a VPN comes": {lostAfter, sabotage{
		only: func(c *course, _ *rand.Rand) (Event, bool) {
			return c.vpnBy("wg-quick"), true
		}, first: kill}},
	"killed before its rules are deleted": {lostAfter,
		sabotage{only: (*course).cleanup, first: kill}},
	"killed": {daemonEnded, sabotage{only: (*course).rule, first: kill}},
	"lost while a rule comes": {lostDuring, sabotage{only: (*course).rule,
		meanwhile: func(g *guard) {
			g.ruleset(silence)
			time.Sleep(4 * beat)
			g.ruleset("delete table ip silence")
		}}},
	"a connection is closed while a rule comes": {lostDuring,
		sabotage{only: (*course).rule, meanwhile: (*guard).hangUp}},
}

// kill kills the daemon. What it has written stays.
func kill(g *guard) { g.daemon.Process.Kill() }

// silence is a ruleset that drops the replies of one address.
const silence = `table ip silence {
 chain outbound { type filter hook output priority 0; ip saddr 10.7.0.10 drop; }
}`

// ruleset loads rules of nft on the host.
func (g *guard) ruleset(text string) {
	if err := g.built.run(host, text, "nft", "-f", "-"); err != nil {
		g.faults = append(g.faults, Fault{Kind: "not planted", Detail: err.Error()})
	}
}

// hangUp closes an open connection.
func (g *guard) hangUp() {
	g.pulse.mu.Lock()
	defer g.pulse.mu.Unlock()
	for _, l := range g.pulse.lines {
		if l.how == tcp && l.fd >= 0 {
			l.close()
			return
		}
	}
}

// TestSabotage plants each fault: the oracle finds it, and finds none without
// one.
func TestSabotage(t *testing.T) {
	bin := lasthopBinary(t)
	t.Run("none", func(t *testing.T) {
		if r, _ := guarded(t, plain(), bin, 3, sabotage{}); r.String() != "" {
			t.Fatalf("faults on a plain network:\n%s", r)
		}
	})
	for name, p := range sabotages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _ := guarded(t, plain(), bin, 1, p.sabotage)
			if r.Error != "" || !slices.Contains(r.kinds(), p.kind) {
				t.Errorf("%s is not seen:\n%s", p.kind, r)
			}
		})
	}
}

// TestCourse draws the events of a network twice: a seed is a course.
func TestCourse(t *testing.T) {
	for seed := range uint64(30) {
		a, b := newCourse(draw(seed)), newCourse(draw(seed))
		for range 30 {
			e, f := a.next(), b.next()
			if e.String() != f.String() {
				t.Fatalf("seed %d draws two courses:\n%s\n%s", seed, e, f)
			}
			e.done()
			f.done()
		}
	}
}

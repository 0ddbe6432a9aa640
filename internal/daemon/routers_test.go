package daemon

import (
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/flow/lasthop"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// TestRoom: a finding begins with the minute in which packets left by the table
// while a map was full, and stays for ten minutes after the last such minute.
// What happened before the daemon began does not count.
func TestRoom(t *testing.T) {
	now := time.Unix(1000, 0)
	var r room
	after := func(d time.Duration, byTable int) bool {
		now = now.Add(d)
		r.judge(report.LastHop{Time: now, Fill: []report.Fill{{Map: "connections", Ratio: 1}},
			Counts: report.HopCounts{Answered: 1000, ByTable: byTable}}, 1024)
		return len(r.findings) > 0
	}
	for i, tt := range []struct {
		after   time.Duration
		byTable int
		want    bool
	}{
		{0, 10_000, false}, {roomEvery, 10_000, false}, {roomEvery, 11_000, true},
		{roomEvery, 12_000, true}, {roomKept, 12_000, true}, {roomEvery, 12_000, false},
		{roomEvery, 10, false}, {roomEvery, 1000, true},
	} {
		if got := after(tt.after, tt.byTable); got != tt.want {
			t.Errorf("look %d: found %t, want %t", i, got, tt.want)
		}
	}
}

// TestFront: a finding says that a program in front keeps packets from
// lasthop's when replies go by the table and nothing is learned by its link,
// until something is or the program is gone. A link without such a program is
// only a link without clients.
func TestFront(t *testing.T) {
	hop := lasthop.Hop{Link: 2}
	links := []routing.Link{{Name: "eth1", Index: 2}, {Name: "eth2", Index: 3}}
	there := []routing.Finding{routing.Info.Finding("program-in-front", "eth1", "")}
	now, seen := time.Unix(1000, 0), time.Unix(900, 0)
	var f front
	for i, tt := range []struct {
		after   time.Duration
		byTable uint64
		learns  bool
		found   []routing.Finding
		want    bool
	}{
		{0, 50, false, there, false}, {frontEvery, 50, false, there, false},
		{frontEvery, 60, true, there, false}, {frontEvery, 70, false, there, true},
		{time.Second, 70, false, there, true}, {frontEvery, 70, false, there, true},
		{time.Second, 70, true, there, false}, {frontEvery, 80, false, nil, false},
		{frontEvery, 90, false, there, true}, {time.Second, 90, false, nil, false},
		{frontEvery, 5, false, there, false}, // other maps
	} {
		now = now.Add(tt.after)
		if tt.learns {
			seen = now
		}
		f.look(lasthop.Reading{At: now, Counts: lasthop.Counts{ByTable: tt.byTable},
			Hops: map[lasthop.Hop]lasthop.Noted{hop: {At: seen}}}, tt.found, links)
		if got := len(f.findings) == 1 && f.findings[0].Subject == "eth1"; got != tt.want {
			t.Errorf("look %d: %v, want %t", i, f.findings, tt.want)
		}
	}
}

// TestBoardLastHop: an answer has what the mode does now, but none is made more
// often than every two seconds.
func TestBoardLastHop(t *testing.T) {
	b := newBoard()
	at := time.Unix(1000, 0)
	steers := func(d time.Duration, learned int) bool {
		at = at.Add(d)
		return b.steers(&report.LastHop{Time: at,
			Counts: report.HopCounts{Learned: learned}})
	}
	learned := func() int {
		if l := b.status().LastHop; l != nil {
			return l.Counts.Learned
		}
		return -1
	}
	if got := learned(); got != -1 {
		t.Errorf("before anything: %d", got)
	}
	if !steers(0, 1) || learned() != 1 {
		t.Errorf("the mode has begun: %d", learned())
	}
	first := b.latest()
	if steers(time.Second, 2) || learned() != 1 || b.latest() != first {
		t.Errorf("a second later: %d", learned())
	}
	if steers(time.Second, 3) || learned() != 3 {
		t.Errorf("two seconds later: %d", learned())
	}
	b.publish(report.Status{Detector: "x"})
	steers(renewed, 4)
	if s := b.status(); s.Detector != "x" || s.LastHop.Counts.Learned != 4 {
		t.Errorf("after publishing: %+v", s)
	}
	if !b.steers(nil) {
		t.Error("the mode has ended, and nothing is to be published")
	}
	b.publish(report.Status{})
	if got := learned(); got != -1 {
		t.Errorf("after the mode: %d", got)
	}
}

// TestLastHopMetrics: hops are counted by link and state, never named.
func TestLastHopMetrics(t *testing.T) {
	hop := report.Hop{Link: "eth1", MAC: "02:00:00:00:00:01", State: report.HopDead,
		Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.1")}}
	s := report.Status{LastHop: &report.LastHop{Hops: []report.Hop{hop},
		Links: []report.LinkHops{{Link: "eth1", Dead: 1, Alive: 2}},
		Fill:  []report.Fill{{Map: "connections", Ratio: .25}},
		Counts: report.HopCounts{Learned: 1, Moved: 2, Refused: 3, Answered: 4, ByTable: 5,
			Dead: 6}}}
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics{func() report.Status { return s }, "v"})
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).
		ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	text := w.Body.String()
	var got []string
	for _, line := range strings.Split(text, "\n") {
		for _, name := range []string{"hops", "flows_", "learned", "moved", "refused",
			"answered", "by_table", "dead"} {
			if strings.HasPrefix(line, "lasthop_"+name) {
				got = append(got, line)
			}
		}
	}
	want := []string{
		"lasthop_answered_total 4", "lasthop_by_table_total 5", "lasthop_dead_total 6",
		`lasthop_flows_fill_ratio{map="connections"} 0.25`,
		`lasthop_hops{interface="eth1",state="alive"} 2`,
		`lasthop_hops{interface="eth1",state="dead"} 1`,
		`lasthop_hops{interface="eth1",state="quiet"} 0`,
		"lasthop_learned_total 1", "lasthop_moved_total 2", "lasthop_refused_total 3",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if strings.Contains(text, "02:00") || strings.Contains(text, "10.1.0.1") {
		t.Errorf("it names a hop:\n%s", text)
	}
}

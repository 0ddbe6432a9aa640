package main_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lasthop/internal/nstest"
)

// vigilCase is a change that waits to be confirmed, and what packets do.
type vigilCase struct {
	name    string
	prepare func(*nstest.Street)
	traffic func(context.Context, *nstest.Street)
	want    string        // in the error; "" if nothing is undone by packets
	within  time.Duration // of the change
}

var vigilCases = []vigilCase{
	{"a firewall drops the new way", dropNewWay, steadily(20, 2*time.Second, "198.51.100.2", "198.51.100.3"),
		"10.7.1.100:80 answered 2 clients (off-link); since then it answered none of 2 " +
			"clients: replies left by eth1 10.7.1.1", 5 * time.Second},
	{"the change is right", nil, steadily(20, 2*time.Second, "198.51.100.2", "198.51.100.3"), "", 0},
	{"no traffic", dropNewWay, nil, "", 0},
	{"spoofed requests alone", dropNewWay, spoofed, "", 0},
}

// dropNewWay makes the router drop what comes back by the link that the plan
// changes to: the one by which requests to the VIP leave.
func dropNewWay(s *nstest.Street) {
	s.Router.Run("nft", "table ip t { chain c { type filter hook forward priority 0; "+
		"iifname r1 ip saddr 10.7.1.100 drop; }; }")
}

// steadily asks so many times a second, from each address in turn.
func steadily(rate, patience time.Duration,
	from ...string) func(context.Context, *nstest.Street) {
	return func(ctx context.Context, s *nstest.Street) {
		var all sync.WaitGroup
		defer all.Wait()
		tick := time.NewTicker(time.Second / rate)
		defer tick.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			select {
			case <-tick.C:
				all.Go(func() {
					nstest.Ask(s.Client, "tcp", from[i%len(from)],
						"10.7.1.100:80", patience)
				})
			case <-ctx.Done():
			}
		}
	}
}

// spoofed sends 1,000 SYNs whose senders never answer.
func spoofed(ctx context.Context, s *nstest.Street) {
	s.Client.IP("route add blackhole 203.0.113.0/24")
	s.Router.IP("route add 203.0.113.0/24 via 198.51.100.2")
	var addrs []string
	for i := range 200 {
		addrs = append(addrs, fmt.Sprintf("203.0.113.%d", 1+i))
	}
	for _, a := range addrs {
		s.Client.IP("addr add " + a + "/32 dev lo")
	}
	s.Client.Run("nft", "table ip t { chain c { type filter hook input priority 0; "+
		"ip daddr 203.0.113.0/24 drop; }; }")
	steadily(100, 100*time.Millisecond, addrs...)(ctx, s)
}

// TestVigil: apply --confirm goes back by itself once the packets show that a
// listener that was answered before is answered no more, and for no other
// reason.
func TestVigil(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip(err)
	}
	lasthop, conf := built(t, "10.7.1.100:80")
	for _, tt := range vigilCases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, lasthop, conf)
		})
	}
}

func (tt vigilCase) run(t *testing.T, lasthop, conf string) {
	s := nstest.NewStreet(t)
	s.Serve(s.Host, "10.7.1.100:80")
	if tt.prepare != nil {
		tt.prepare(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	if tt.traffic != nil {
		all.Go(func() { tt.traffic(ctx, s) })
	}
	confirm := "8s"
	if tt.want != "" {
		confirm = "60s"
	}
	c := exec.Command(lasthop, "apply", "--netns", s.Host.Path, "--run-dir",
		filepath.Join(t.TempDir(), "run"), "-c", conf, "--config", "", "--gateway",
		"eth1=10.7.1.1", "--confirm", confirm)
	var stdout, stderr strings.Builder
	c.Stdout, c.Stderr = &stdout, &stderr
	begun := time.Now()
	err := c.Run()
	took := time.Since(begun)
	want := "error: not confirmed in time: lasthop undid the change, all is as before"
	if tt.want != "" {
		want = tt.want
	}
	if err == nil || !strings.Contains(stderr.String(), want) ||
		!strings.Contains(stderr.String(), "lasthop undid the change, all is as before") {
		t.Errorf("%v\n%s%s", err, stdout.String(), stderr.String())
	}
	if limit := nstest.Patience(3*time.Second + tt.within); tt.want != "" && took > limit {
		t.Errorf("went back after %s, want at most %s", took, limit)
	}
	t.Logf("ended after %s: %s", took, stderr.String())
	if rules := s.Host.IP("-N rule"); strings.Contains(rules, "proto 76") {
		t.Errorf("not taken back:\n%s", rules)
	}
}

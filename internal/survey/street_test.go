package survey

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/internal/settings"
	"lasthop/routing"
	"lasthop/routing/flow"
	"lasthop/routing/host"
)

// street is a host to survey, with a router and a client.
type street struct {
	*nstest.Street
	t       *testing.T
	listens []string
	more    settings.Flags
	probe   bool
	counts  bool          // how many TCP connections a way has is wanted, too
	took    time.Duration // from the first traffic until the ways were as wanted
}

func newStreet(t *testing.T) *street {
	t.Helper()
	return &street{Street: nstest.NewStreet(t), t: t,
		listens: []string{"10.7.0.10:80", "10.7.1.100:80", "[2001:db8:1::10]:80"}}
}

// observe looks at the host while the traffic runs, until the ways are as
// wanted. It returns what was seen.
func (s *street) observe(want string, traffic ...func()) routing.Seen {
	s.t.Helper()
	survey := s.look()
	ctx, cancel := context.WithTimeout(context.Background(), nstest.Patience(8*time.Second))
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	begun, start := false, time.Now()
	var last string
	seen, err := survey.Observe(ctx, time.Hour, s.probe, func(p flow.Progress) bool {
		if !begun { // now the socket is open
			begun, start = true, time.Now()
			for _, f := range traffic {
				all.Go(f)
			}
		}
		last = s.ways(routing.Judge(survey.Decision, p.Look()))
		return last == strings.TrimSpace(want)
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.took = time.Since(start)
	if got := s.ways(seen); got != strings.TrimSpace(want) {
		s.t.Errorf("got\n%s\n-- want\n%s\n-- findings %v", got, strings.TrimSpace(want),
			seen.Findings)
	}
	return seen
}

// look surveys the host.
func (s *street) look() *Survey {
	s.t.Helper()
	k, err := host.Open(s.Host.Path)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(k.Close)
	conf := filepath.Join(s.t.TempDir(), "nginx.conf")
	text := "events {}\nhttp {\n"
	for _, l := range s.listens {
		text += "server { listen " + l + "; }\n"
	}
	if err := os.WriteFile(conf, []byte(text+"}\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	f := s.more
	f.Confs = []string{conf}
	survey, err := Live(k, s.Host.Path, func(string) {}).Look(f)
	if err != nil {
		s.t.Fatal(err)
	}
	return survey
}

// ways prints what was seen, a line for each way.
func (s *street) ways(seen routing.Seen) string {
	var lines []string
	for _, l := range seen.Listeners {
		for _, w := range l.Ways {
			out := w.Out.Name()
			if w.Out.Asked.IsValid() {
				out = fmt.Sprintf("asked for %s on %s", w.Out.Asked, w.Out.Link)
			}
			line := fmt.Sprintf("%s %s by %s -> %s: %s %s", l, w.Class, w.In.Name(),
				out, w.Verdict, w.Outcome)
			if s.counts && w.Transport == routing.TCP {
				line += fmt.Sprintf(" (%d)", w.Count.Seen)
			}
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// codes are the codes of findings with their severities.
func codes(s routing.Seen) string {
	var out []string
	for _, f := range s.Findings {
		out = append(out, string(f.Severity)+" "+string(f.Code))
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), ", ")
}

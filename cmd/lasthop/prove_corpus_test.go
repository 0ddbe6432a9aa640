package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/routing/capture"

	"github.com/google/go-cmp/cmp"
)

// notRebuilt is what of the scenarios' hosts this kernel cannot make: that of
// 6.18 without VRF.
var notRebuilt = map[string][]string{
	"vrf": {"VRF blue: operation not supported: Unknown device type", "ip -6 route replace local fe80::ff:3 dev eth1 table 10 proto kernel metric 0", "ip rule add pref 1000 from all l3mdev protocol kernel", "ip -6 rule add pref 1000 from all l3mdev protocol kernel"},
}

// TestProveScenarios: `plan --prove` finds no difference on any host of the
// corpus, and rebuilds all of each host except what is listed.
func TestProveScenarios(t *testing.T) {
	t.Parallel()
	asked := 0
	hosts := eachScenario(t, func(t *testing.T, s *scenario) {
		flags, _ := s.section("flags")
		p := s.prove(t, strings.Split(flags, "\n"))
		asked += p.Asked
		if d := cmp.Diff(notRebuilt[strings.TrimSuffix(filepath.Base(s.path), ".txtar")],
			p.NotRebuilt); d != "" && len(p.NotRebuilt) > 0 {
			t.Errorf("not rebuilt: -want +got\n%s", d)
		}
	})
	t.Logf("%d hosts, %d answers of the kernel, all as planned", hosts, asked)
}

// TestProveRandomHosts does the same with random hosts.
func TestProveRandomHosts(t *testing.T) {
	t.Parallel()
	asked, start := 0, time.Now()
	n := max(1, *randomHosts/30)
	for i := range n {
		g := generate(*randomSeed + uint64(i))
		t.Run(fmt.Sprint("seed=", g.seed), func(t *testing.T) {
			w, err := parseWorld(g.lines)
			if err != nil {
				t.Fatal(err)
			}
			p := w.prove(t, g.lines)
			asked += p.Asked
			if len(p.NotRebuilt) > 0 {
				t.Errorf("not rebuilt: %q\nof\n%s", p.NotRebuilt,
					strings.Join(g.lines, "\n"))
			}
		})
	}
	t.Logf("%d hosts, %d answers of the kernel, all as planned; %s a host", n, asked,
		time.Since(start)/time.Duration(n))
}

type proof struct {
	Proved      bool
	Unproved    string
	Asked       int
	Differences []struct{ When, Subject, Want, Got string }
	NotRebuilt  []string `json:"not_rebuilt"`
}

// prove runs plan --prove on the scenario's host, captured, with those of the
// lines that are flags.
func (s *scenario) prove(t *testing.T, lines []string) proof {
	t.Helper()
	if err := nstest.Available(); err != nil && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	data, err := capture.Encode(capture.Capture{Time: time.Now(), Host: s.sim.Host,
		Listens: s.inputs.Listeners, Binds: s.inputs.Binds})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "host.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("/proc/self/exe")
	c.Args = append([]string{"lasthop", "plan", "--config", "", "--host", file,
		"--prove", "-o", "json"}, flagsOf(lines)...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err = c.Run()
	var doc struct {
		Proof    proof
		Findings []struct{ Code string }
	}
	if e := json.Unmarshal(stdout.Bytes(), &doc); e != nil {
		t.Fatalf("%v: %v\n%s", e, err, stderr.String())
	}
	p, last := doc.Proof, len(doc.Proof.NotRebuilt)-1
	if last >= 0 && strings.HasPrefix(p.NotRebuilt[last], "the programs of the mode last-hop") {
		p.NotRebuilt = p.NotRebuilt[:last]
	}
	if strings.Contains(fmt.Sprint(doc.Findings), "no-bpf") && c.ProcessState.ExitCode() == 2 {
		err = nil // the mode is not available, and the rest is as planned
	}
	if !p.Proved || err != nil || stderr.Len() > 0 {
		t.Errorf("%v %s%s", err, p.Unproved, stderr.String())
	}
	for _, d := range p.Differences {
		t.Errorf("%s, %s: %s, not %s", d.When, d.Subject, d.Got, d.Want)
	}
	if p.Asked == 0 && len(s.inputs.Listeners) > 0 {
		t.Error("nothing was asked")
	}
	return p
}

func flagsOf(lines []string) (flags []string) {
	for _, line := range lines {
		if strings.HasPrefix(line, "--") {
			flags = append(flags, strings.Fields(line)...)
		}
	}
	return flags
}

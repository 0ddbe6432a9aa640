package main_test

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lasthop/internal/nstest"
)

// growing is a host with four uplinks and n VIPs, and a program that is
// measured on it.
type growing struct {
	*nstest.NS
	b        *testing.B
	dir, exe string
	vips     []string // ADDR, alike many on each uplink
}

func newGrowing(b *testing.B, n, routes int) *growing {
	b.Helper()
	g := &growing{NS: nstest.New(b), b: b, dir: b.TempDir()}
	g.exe = filepath.Join(g.dir, "lasthop")
	if out, err := exec.Command("go", "build", "-o", g.exe, ".").CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	var ip, conf strings.Builder
	for u := range 4 {
		fmt.Fprintf(&ip, "link add eth%d type veth peer name p%d\n"+
			"link set p%d up\nlink set eth%d up\n", u, u, u, u)
		fmt.Fprintf(&ip, "addr add 10.%d.0.2/16 dev eth%d\n", u, u)
		fmt.Fprintf(&ip, "route add default via 10.%d.0.1 dev eth%d metric %d\n",
			u, u, 10*u+10)
	}
	conf.WriteString("events {}\nhttp {\n")
	for i := range n {
		addr := fmt.Sprintf("10.%d.%d.%d", i%4, 1+i/4/250, 1+i/4%250)
		g.vips = append(g.vips, addr)
		fmt.Fprintf(&ip, "addr add %s/16 dev eth%d\n", addr, i%4)
		fmt.Fprintf(&conf, "server { listen %s:80; }\n", addr)
	}
	conf.WriteString("}\n")
	for i := range routes {
		fmt.Fprintf(&ip, "route add %d.%d.%d.0/24 via 10.%d.0.1\n",
			20+i/65536, i/256%256, i%256, i%4)
	}
	g.Batch(ip.String())
	if err := os.WriteFile(g.conf(), []byte(conf.String()), 0o644); err != nil {
		b.Fatal(err)
	}
	return g
}

func (g *growing) conf() string { return filepath.Join(g.dir, "nginx.conf") }

// lasthop runs a command of the program in the namespace and returns the time
// that it took.
func (g *growing) lasthop(args ...string) time.Duration {
	g.b.Helper()
	args = append(args, "--config", "", "--run-dir", g.dir)
	if args[0] != "clear" {
		args = append(args, "-c", g.conf())
	}
	return g.time(g.Command(append([]string{g.exe}, args...)...))
}

// recipe adds (or deletes) the rules of the recipe by hand: one for each VIP.
func (g *growing) recipe(verb string) time.Duration {
	g.b.Helper()
	var rules strings.Builder
	for i, v := range g.vips {
		fmt.Fprintf(&rules, "rule %s from %s table %d pref 1000\n", verb, v, 101+i%4)
	}
	c := g.Command("ip", "-batch", "-")
	c.Stdin = strings.NewReader(rules.String())
	return g.time(c)
}

func (g *growing) time(c *exec.Cmd) time.Duration {
	g.b.Helper()
	var stderr strings.Builder
	c.Stderr = &stderr
	start := time.Now()
	if err := c.Run(); err != nil {
		g.b.Fatalf("%v: %v\n%s", c.Args, err, stderr.String())
	}
	return time.Since(start)
}

// exponent is the growth of times with sizes: 1 is linear, 2 quadratic. It is
// the slope of the line of least squares through the logarithms.
func exponent(sizes []int, times []time.Duration) float64 {
	var sx, sy, sxx, sxy float64
	n := float64(len(sizes))
	for i := range sizes {
		x, y := math.Log(float64(sizes[i])), math.Log(times[i].Seconds())
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}

// BenchmarkGrowth measures whole processes in one run at growing sizes: `apply`
// against `ip -batch` with the recipe's rules for the same VIPs, `clear`, and
// `check` against `plan` with ten times as many routes. Its last line of each
// is the ratio at the largest size, and the exponent of growth.
func BenchmarkGrowth(b *testing.B) {
	sizes := []int{1250, 2500, 5000, 10000}
	b.Run("apply", func(b *testing.B) {
		apply, clear := make([]time.Duration, len(sizes)), make([]time.Duration, len(sizes))
		ratio := 0.0
		for i, n := range sizes {
			g := newGrowing(b, n, 0)
			var batch time.Duration
			for range b.N {
				apply[i] += g.lasthop("apply")
				clear[i] += g.lasthop("clear")
				batch += g.recipe("add")
				g.recipe("del")
			}
			ratio = apply[i].Seconds() / batch.Seconds()
			b.Logf("%6d VIPs: apply %.3f s, clear %.3f s, ip -batch %.3f s, ratio %.2f",
				n,
				apply[i].Seconds()/float64(b.N), clear[i].Seconds()/float64(b.N),
				batch.Seconds()/float64(b.N), ratio)
		}
		b.ReportMetric(ratio, "apply/ip-batch")
		b.ReportMetric(exponent(sizes, apply), "apply-exponent")
		b.ReportMetric(exponent(sizes, clear), "clear-exponent")
	})
	b.Run("check", func(b *testing.B) {
		check, plan := make([]time.Duration, len(sizes)), make([]time.Duration, len(sizes))
		ratio := 0.0
		for i, n := range sizes {
			g := newGrowing(b, n, 10*n)
			g.lasthop("apply")
			for range b.N {
				plan[i] += g.lasthop("plan")
				check[i] += g.lasthop("check")
			}
			ratio = check[i].Seconds() / plan[i].Seconds()
			b.Logf("%6d listeners, %6d routes: plan %.3f s, check %.3f s, ratio %.2f",
				n, 10*n,
				plan[i].Seconds()/float64(b.N), check[i].Seconds()/float64(b.N),
				ratio)
		}
		b.ReportMetric(ratio, "check/plan")
		b.ReportMetric(exponent(sizes, plan), "plan-exponent")
		b.ReportMetric(exponent(sizes, check), "check-exponent")
	})
}

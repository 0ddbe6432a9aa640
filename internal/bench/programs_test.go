package bench

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// listeners are the sizes of the tables of programs.
var listeners = []int{10, 1000, 10000}

// program is a run of a program; prepare, if any, runs before it and is not
// measured.
type program struct {
	name    string
	prepare func(*street)
	command func(*street) *exec.Cmd
}

// elapsed runs it and returns the time from its start to its end, and the
// processor time, in nanoseconds.
func (p program) elapsed(s *street) (took, used float64) {
	s.t.Helper()
	if p.prepare != nil {
		p.prepare(s)
	}
	c := p.command(s)
	var stderr strings.Builder
	c.Stderr = &stderr
	start := time.Now()
	if err := c.Run(); err != nil {
		s.t.Fatalf("%v: %v\n%s", c.Args, err, stderr.String())
	}
	took = float64(time.Since(start))
	return took, float64(c.ProcessState.UserTime() + c.ProcessState.SystemTime())
}

// comparePrograms measures in rounds, and returns the elapsed time and the
// processor time.
func comparePrograms(s *street, rounds int, programs []program) (took, used column) {
	s.t.Helper()
	took = column{fmt.Sprint(s.vips, ": elapsed"), make([][]float64, len(programs))}
	used = column{fmt.Sprint(s.vips, ": processor time"), make([][]float64, len(programs))}
	for round := range rounds {
		for i := range programs {
			p := (i + round) % len(programs)
			t, u := programs[p].elapsed(s)
			took.costs[p] = append(took.costs[p], t)
			used.costs[p] = append(used.costs[p], u)
		}
	}
	return took, used
}

// roundsOf returns fewer rounds if a round takes long.
func roundsOf(size sizes, n int) int { return max(3, size.rounds/min(max(1, n/500), 4)) }

// printPrograms prints a table with two columns for each size, and for each
// program how much its processor time grows between the last two sizes.
func printPrograms(title string, programs []program, columns []column) {
	var names []string
	last := len(columns)/2 - 1
	for i, p := range programs {
		x := exponent(listeners[last-1], listeners[last],
			median(columns[2*last-1].costs[i]), median(columns[2*last+1].costs[i]))
		names = append(names, fmt.Sprintf("%s (grows with n^%.2f)", p.name, x))
	}
	fmt.Print(table(title, names, columns))
}

// exponent returns the growth of times from one size to another: 1 is linear, 2
// quadratic.
func exponent(n, m int, timeN, timeM float64) float64 {
	return math.Log(timeM/timeN) / math.Log(float64(m)/float64(n))
}

func onHost(f func(*street) []string) func(*street) *exec.Cmd {
	return func(s *street) *exec.Cmd { return s.host.Command(f(s)...) }
}

var readers = []program{
	{"nginx -t", nil, onHost(func(s *street) []string {
		return []string{"nginx", "-t", "-q", "-p", s.dir, "-c", s.conf()}
	})},
	{"lasthop plan", nil, onHost(func(s *street) []string { return s.command("plan") })},
}

// site is an ordinary server: a file of its own, with a proxy and static files.
const site = `server {
	listen %s:80;
	server_name app%d.example.com;
	client_max_body_size 16m;
	add_header X-Frame-Options SAMEORIGIN;
	location / {
		proxy_pass http://192.0.2.1:8080;
		proxy_http_version 1.1;
		proxy_set_header Host $host;
		proxy_set_header X-Real-IP $remote_addr;
		proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
		proxy_read_timeout 60s;
	}
	location /static/ {
		root /srv/app;
		expires 1h;
		try_files $uri $uri/ =404;
	}
}
`

// TestPlan prints the time from the files to a plan, compared with NGINX's own
// test of the files. It needs as many open files as listeners.
func TestPlan(t *testing.T) {
	size, exe := wanted(t), build(t)
	var g goals
	for _, layout := range []struct {
		title string
		write func(s *street, vip int) string
	}{
		{"File to plan: one file, a line a server", func(s *street, i int) string {
			return fmt.Sprintf("server { listen %s:80; }\n", s.vip(families[0], i))
		}},
		{"File to plan: a file a server, 20 lines each", func(s *street, i int) string {
			file := fmt.Sprintf("%s/site%d", s.dir, i)
			s.write(file, fmt.Sprintf(site, s.vip(families[0], i), i))
			return "include " + file + ";\n"
		}},
	} {
		var columns []column
		for _, n := range listeners {
			s := newStreet(t, exe, 4, n)
			s.configure(func(i int) string { return layout.write(s, i) })
			took, used := comparePrograms(s, roundsOf(size, n), readers)
			columns = append(columns, took, used)
		}
		printPrograms(layout.title, readers, columns)
		g.add(layout.title+", 10000 listeners, processor time", 0.3,
			median(columns[5].ratios(1)))
	}
	fmt.Println(g)
}

// writings are what `apply` is compared with, a table each.
var writings = []struct {
	title, by, server string                 // %s in server is its address
	batch             func(*street) []string // of `ip`
	goals             bool                   // at every size, not only at the last
}{
	{"Plan to kernel: a rule or two a listener", "ip -batch",
		"server { listen %s:80; location / { proxy_pass http://192.0.2.1; " +
			"proxy_bind $remote_addr transparent; } }\n", (*street).commands, false},
	{"Recipe by hand to kernel: a rule for each VIP", "ip -batch of the recipe",
		"server { listen %s:80; }\n", (*street).recipe, true},
}

// writersOf returns the programs of such a table. Each run begins with a
// cleared host.
func writersOf(by string) []program {
	return []program{
		{by, (*street).clear, func(s *street) *exec.Cmd {
			return s.host.Command("ip", "-batch", s.dir+"/batch")
		}},
		{"lasthop apply", (*street).clear,
			onHost(func(s *street) []string { return s.command("apply") })},
		{"of it the plan", (*street).clear,
			onHost(func(s *street) []string { return s.command("plan") })},
	}
}

// clear removes what lasthop or the recipe has installed.
func (s *street) clear() {
	s.t.Helper()
	s.lasthop("clear")
	s.host.Run("sh", "-c", "ip rule show pref 1000 | sed 's/.*/rule del pref 1000/' | "+
		"ip -batch -")
	for u := range s.uplinks { // a missing table is no error
		s.host.Run("sh", "-c", fmt.Sprintf("ip route flush table %d 2>&1 || :", 101+u))
	}
}

// TestApply prints how long `apply` takes against `ip -batch`. In one table
// both write the same commands: the servers bind to their clients' addresses,
// so that each listener has rules of its own. In the other table the listeners
// are ordinary ones, for which lasthop has a rule or two for each prefix, and
// `ip -batch` writes what administrators write by hand.
func TestApply(t *testing.T) {
	size, exe := wanted(t), build(t)
	var g goals
	for _, w := range writings {
		t.Run(w.by, func(t *testing.T) {
			programs := writersOf(w.by)
			var columns []column
			for i, n := range listeners[:size.applied] {
				s := newStreet(t, exe, 4, n)
				s.configure(func(i int) string {
					return fmt.Sprintf(w.server, s.vip(families[0], i))
				})
				commands := w.batch(s)
				if len(commands) < n {
					t.Fatalf("%d commands for %d listeners", len(commands), n)
				}
				s.write(s.dir+"/batch", strings.Join(commands, "\n"))
				took, used := comparePrograms(s, roundsOf(size, n), programs)
				took.name = fmt.Sprintf("%d listeners, %d commands: elapsed", n,
					len(commands))
				used.name = "processor time"
				columns = append(columns, took, used)
				if w.goals && n >= 1000 || i == size.applied-1 {
					g.add(fmt.Sprintf("%s, %d listeners, processor time",
						w.title, n), 0.5, median(used.ratios(1)))
				}
			}
			printPrograms(w.title, programs, columns)
		})
	}
	fmt.Println(g)
}

// recipe returns the commands of the recipe by hand, without the word ip: a
// table for each interface, a rule for each address.
func (s *street) recipe() []string {
	var b strings.Builder
	s.tablesOf(&b, families[0], "add")
	s.ruleEachOf(&b, families[0], "add")
	return strings.Split(strings.TrimSpace(b.String()), "\n")
}

// commands returns the commands of the plan, without the word ip.
func (s *street) commands() (lines []string) {
	s.t.Helper()
	var plan struct{ Changes []struct{ Text string } }
	if err := json.Unmarshal([]byte(s.lasthop("plan", "-o", "json")), &plan); err != nil {
		s.t.Fatal(err)
	}
	for _, c := range plan.Changes {
		lines = append(lines, strings.TrimPrefix(c.Text, "ip "))
	}
	return lines
}

// TestDaemon prints the results of the daemon's own benchmarks: the time from
// the fork of NGINX's new workers to the kernel, the cost of a sync that
// changes nothing, and that of an idle daemon.
func TestDaemon(t *testing.T) {
	runs := map[string][][2]string{
		"short": {{"Reload$/.*/connector/(tested|busy)", "6x"}, {"SyncUnchanged", "50x"}},
		"full": {{"Reload", "50x"}, {"Heal", "20x"}, {"SyncUnchanged", "100x"},
			{"Idle", "1x"}},
	}
	wanted(t)
	fmt.Printf("\n### The daemon\n\n| | |\n|---|---|\n")
	for _, run := range runs[*tables] {
		c := exec.Command("go", "test", "-run", "^$", "-bench", run[0],
			"-benchtime", run[1], "-timeout", "60m", "../daemon")
		c.Stderr = os.Stderr
		out, err := c.Output()
		fmt.Print(benchmarks(string(out)))
		if err != nil {
			t.Errorf("%v: %v\n%s", c.Args, err, out)
		}
	}
	fmt.Println()
}

// benchmarks returns the rows of a table for the lines of Go's benchmarks,
// without Go's own ns/op: only the metrics that they report themselves count.
func benchmarks(output string) string {
	var b strings.Builder
	for line := range strings.Lines(output) {
		f := strings.Fields(line)
		if len(f) < 6 || !strings.HasPrefix(f[0], "Benchmark") || f[3] != "ns/op" {
			continue
		}
		fmt.Fprintf(&b, "| %s |", strings.TrimPrefix(f[0], "Benchmark"))
		sep := " "
		for i := 4; i+1 < len(f); i += 2 {
			fmt.Fprintf(&b, "%s%s %s", sep, f[i], f[i+1])
			sep = ", "
		}
		b.WriteString(" |\n")
	}
	return b.String()
}

// TestBenchmarks makes rows, and checks the exponent of a square.
func TestBenchmarks(t *testing.T) {
	got := benchmarks("goos: linux\n" +
		"BenchmarkReload/n=10-2 \t 5\t 123 ns/op\t 0.5 p50-ms\t 7 p99-ms\nPASS\n")
	if want := "| Reload/n=10-2 | 0.5 p50-ms, 7 p99-ms |\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := exponent(10, 1000, 3, 30000); math.Abs(got-2) > 1e-9 {
		t.Errorf("the exponent of a square is %v", got)
	}
}

package nginxconf

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lasthop/internal/nstest"

	"golang.org/x/sys/unix"
)

const (
	rssMost  = 256 << 10 // KiB
	timeMost = 10 * time.Second
)

// hostile are configurations that are no accident. Each makes files below dir;
// nginx.conf is the main one. want is what the error says, behind the name of
// the file and its line; "" where NGINX takes the configuration, and so does
// Load.
var hostile = []struct {
	name, want string
	main       func(dir string) string
}{
	{"a thousand nested blocks", "", func(string) string {
		return web(strings.Repeat("a {", 998) + strings.Repeat("}", 998))
	}},
	{"50,000 nested blocks", "more than 1000 nested blocks", func(string) string {
		return strings.Repeat("a {", 50_000) + strings.Repeat("}", 50_000)
	}},
	{"blocks nested by files that include each other", "more than 1000 nested blocks", func(dir string) string {
		for n := range 99 {
			put(dir, fmt.Sprint(n), strings.Repeat("a {", 20)+fmt.Sprintf("include %d;", n+1)+strings.Repeat("}", 20))
		}
		put(dir, "99", "listen 1;")
		return web("include 0;")
	}},
	{"many listens deep inside", "too many directives", func(string) string {
		return web(strings.Repeat("a {", 900) + strings.Repeat("server{listen 1;}", 100_000) + strings.Repeat("}", 900))
	}},
	{"one huge word", "a word of more than 4095 bytes", func(string) string { return web(strings.Repeat("a", 60<<20) + ";") }},
	{"one huge word in quotes", "a word of more than 4095 bytes", func(string) string { return web("listen \"" + strings.Repeat("\n", 60<<20) + "\";") }},
	{"a quote that does not end", "premature end of file", func(string) string { return web("listen '" + strings.Repeat("a ", 30<<20)) }},
	{"20,000,000 words in one listen", "more than 131072 words", func(string) string { return web("server { listen 1" + strings.Repeat(" a", 20_000_000) + ";}") }},
	{"a Lua block that does not end", "premature end of file", func(string) string { return web("content_by_lua_block {" + strings.Repeat("[==[", 15<<20)) }},
	{"a huge comment", "", func(string) string { return web("#" + strings.Repeat("{", 60<<20) + "\n") }},
	{"braces", "unexpected \"{\"", func(string) string { return strings.Repeat("{", 60<<20) }},
	{"a million directives", "", func(string) string { return web(strings.Repeat("add_header a b;\n", 1_000_000)) }},
	{"a million empty blocks", "", func(string) string { return web(strings.Repeat("location /a {\n}", 1_000_000)) }},
	{"2,000 servers", "", func(string) string {
		return web(strings.Repeat("server { listen 10.0.0.1:443 ssl; listen [2001:db8::1]:443 ssl; server_name www.example.com example.com;\n"+
			"ssl_certificate /etc/ssl/example.com.pem; ssl_certificate_key /etc/ssl/example.com.key; location / { proxy_pass http://10.0.1.1:8080; } }\n", 2_000))
	}},
	{"300,000 listens", "too many directives", func(string) string { return web("server {" + strings.Repeat("listen 10.0.0.1:80;\n", 300_000) + "}") }},
	{"a million listens", "too many directives", func(string) string { return web("server {" + strings.Repeat("listen 10.0.0.1:80;\n", 1_000_000) + "}") }},
	{"a million servers", "too many directives", func(string) string { return web(strings.Repeat("server {}", 1_000_000)) }},
	{"a million names", "too many directives", func(string) string {
		var b strings.Builder
		for n := range 1_000_000 {
			fmt.Fprintf(&b, "listen h%d;", n)
		}
		return web("server {" + b.String() + "}")
	}},
	{"a million bad listens", "too many directives", func(string) string { return web("server {" + strings.Repeat("listen :;", 1_000_000) + "}") }},
	{"a million passes", "too many directives", func(string) string { return web("server {" + strings.Repeat("a_pass 10.0.0.1;", 1_000_000) + "}") }},
	{"binds to each address, with each upstream", "too many directives", func(string) string {
		return web("upstream u {" + strings.Repeat("server 10.0.0.1;", 50_000) + "} server {" + listens(1000) + strings.Repeat("proxy_bind $server_addr;", 100) +
			strings.Repeat("location /a { proxy_pass http://u; }", 10_000) + "}")
	}},
	{"a file that includes the next one twice", "too many directives", func(dir string) string {
		for n := range 60 {
			put(dir, fmt.Sprint(n), strings.Repeat(fmt.Sprintf("include %d;", n+1), 2))
		}
		put(dir, "60", "server { listen 80; }")
		return web("include 0;")
	}},
	{"a file that includes itself", "include loop", func(string) string { return web("include nginx.conf;") }},
	{"a pattern that includes itself", "include loop", func(string) string { return web("include *.conf;") }},
	{"files that include each other", "include loop", func(dir string) string {
		put(dir, "a", "include b;")
		put(dir, "b", "\ninclude a;")
		return web("include a;")
	}},
	{"symbolic links in a circle", "too many levels of symbolic links", func(dir string) string {
		link(dir, "a", "b")
		link(dir, "b", "a")
		return web("include a;")
	}},
	{"a pattern through directories that hold themselves", "the patterns match too many " +
		"files", func(dir string) string {
		link(dir, "a", ".")
		link(dir, "b", ".")
		return web("include " + strings.Repeat("*/", 30) + "x;")
	}},
	{"a pattern of many stars", "", func(dir string) string {
		for n := range 1000 {
			put(dir, strings.Repeat("a", 200)+fmt.Sprint(n), "")
		}
		return web("include " + strings.Repeat("*a", 2000) + ";")
	}},
	{"a file of a terabyte", "is too large for a configuration", func(dir string) string {
		put(dir, "a", "")
		must(os.Truncate(filepath.Join(dir, "a"), 1<<40))
		return web("include a;")
	}},
	{"files of 65 MB together", "is too large for a configuration", func(dir string) string {
		put(dir, "a", "#"+strings.Repeat("a", 33<<20))
		put(dir, "b", "#"+strings.Repeat("a", 32<<20))
		return web("include a; include b;")
	}},
	{"a FIFO", "is not a regular file", func(dir string) string { must(mkfifo(filepath.Join(dir, "a"))); return web("include a;") }},
	{"a socket", "is not a regular file", func(dir string) string {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		must(err)
		must(unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(dir, "a")}))
		return web("include a;")
	}},
	{"devices and files of /proc", "", func(string) string {
		return web("include /dev/zero; include /dev/null; include /dev/full; include /proc/kmsg; include /proc/self/mem; include /proc/version;")
	}},
	{"a file of /sys, whose size is a lie", "became shorter", func(string) string { return web("include /sys/kernel/mm/transparent_hugepage/enabled;") }},
	{"a file that grows", "", func(dir string) string {
		put(dir, "a", strings.Repeat("# comment\n", 1<<20))
		go func() {
			f, err := os.OpenFile(filepath.Join(dir, "a"), os.O_WRONLY|os.O_APPEND, 0)
			for range 20_000 { // more than Load takes
				if _, err2 := f.WriteString(strings.Repeat("# comment\n", 100)); err != nil || err2 != nil {
					break
				}
				time.Sleep(time.Millisecond)
			}
			f.Close()
		}()
		return web("include a;")
	}},
}

func web(inside string) string {
	return "events {}\nhttp {\nserver { listen 192.0.2.1:81; }\n" + inside + "\n}\n"
}

func listens(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "listen 10.0.%d.%d:80;", i/256, i%256)
	}
	return b.String()
}

func put(dir, name, text string) {
	must(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
}
func link(dir, name, to string) { must(os.Symlink(to, filepath.Join(dir, name))) }

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// TestHostile: no configuration takes more than 10 s or 256 MiB of a command,
// and each error names a file and has a hint.
func TestHostile(t *testing.T) {
	if err := nstest.Available(); err != nil {
		t.Skip(err)
	}
	exe := filepath.Join(t.TempDir(), "lasthop") // without the race detector's memory
	out, err := exec.Command("go", "build", "-o", exe, "../cmd/lasthop").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, tt := range hostile {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			put(dir, "nginx.conf", tt.main(dir))
			c := exec.Command(os.Args[0], "-test.run=^TestHostilePlan$", "-test.v")
			c.Env = append(os.Environ(), "HOSTILE="+dir, "LASTHOP="+exe)
			out, err := c.Output()
			m := planned.FindStringSubmatch(string(out))
			if err != nil || m == nil {
				t.Fatalf("%v\n%.2000s", err, out)
			}
			rss, err1 := strconv.Atoi(m[1])
			took, err2 := time.ParseDuration(m[2])
			if err1 != nil || err2 != nil || rss > rssMost || took > timeMost {
				t.Errorf("%d MiB, %v; %v, %v", rss>>10, took, err1, err2)
			}
			t.Logf("%d MiB, %v", rss>>10, took)
			said := strings.ReplaceAll(m[3], dir+"/", "")
			slow := tt.want != "" && strings.Contains(said, errSlow.Error())
			if tt.want == "" && said != "" ||
				!strings.Contains(said, tt.want) && !slow {
				t.Errorf("got %q, want %q", said, tt.want)
			}
			if said != "" && !wellSaid.MatchString(said) {
				t.Errorf("no file or hint: %q", said)
			}
		})
	}
}

var (
	planned  = regexp.MustCompile(`(?s)PLANNED (\d+) (\S+)\n(.*)ENDED`)
	wellSaid = regexp.MustCompile(`^lasthop: error: \w[\w.]*(:\d+)?: .*\nlasthop: hint: .`)
)

// TestHostilePlan is a process of TestHostile, which is a small one: the kernel
// counts the memory of the starting process for the started one.
func TestHostilePlan(t *testing.T) {
	dir := os.Getenv("HOSTILE")
	if dir == "" {
		t.Skip("this is for TestHostile")
	}
	c := exec.Command(os.Getenv("LASTHOP"), "plan", "--config", "", "-c", dir+"/nginx.conf")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	var stderr strings.Builder
	c.Stderr = &stderr
	start := time.Now()
	err := c.Run()
	if c.ProcessState == nil {
		t.Fatal(err)
	}
	fmt.Printf("PLANNED %d %v\n", c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss,
		time.Since(start))
	for line := range strings.Lines(stderr.String()) {
		if !strings.HasPrefix(line, "lasthop: warning:") {
			fmt.Print(line)
		}
	}
	fmt.Println("ENDED")
}

// TestHung: a call that takes too long is given up, few such calls are begun,
// and they no longer count when they have ended.
func TestHung(t *testing.T) {
	var h Hung
	hang := make(chan struct{})
	for n := range maxHung {
		if err := within(&h, time.Millisecond, func() { <-hang }); err != errSlow {
			t.Fatalf("call %d: %v", n, err)
		}
	}
	if err := h.Within(func() { t.Error("one too many") }); err != errHung {
		t.Errorf("got %v, want %v", err, errHung)
	}
	close(hang)
	for h.n.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
	called := false
	if err := h.Within(func() { called = true }); err != nil || !called {
		t.Errorf("called: %t, %v", called, err)
	}
}

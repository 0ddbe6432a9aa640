package routing

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"lasthop/internal/nstest"
)

// hardWords are names that a shell would take for something else.
var hardWords = []string{"", "eth0", "eth0.100", "-n", "--", "-e\x01", "a b", "a'b", `a"b`, `a\b`, "a;b",
	"$(id)", "`id`", "$HOME", "~", "*", "[a-z]", "{a,b}", "a\nb", "\n", "\x01\n\n", "-\n\x7f", "\xff", "\xff\n",
	"é", "\u200b", "a\tb", "%s", "%d\x02", "!x", "#x", "a#b", "a=b", "<a", ">b", "a|b", "a&", "(a)", "\u202ea",
	"a\\012b\x03", "'\x04'", "$'\x05'"}

// shell returns what a command prints, as sh runs it.
func shell(t *testing.T, command string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", command).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// FuzzShellWord: sh sees the very word, and one word, wherever it stands, and
// no byte takes more than 2 µs to quote, ten times what a busy machine takes.
func FuzzShellWord(f *testing.F) {
	for _, w := range hardWords {
		f.Add(w)
	}
	f.Fuzz(func(t *testing.T, word string) {
		if strings.Contains(word, "\x00") {
			t.Skip("no argument holds it")
		}
		large := strings.Repeat(word, 1<<12/(len(word)+1))
		most := time.Millisecond + 2*time.Microsecond*time.Duration(len(large))
		nstest.Takes(t, most, fmt.Sprintf("%d bytes of %q", len(large), word),
			func() { ShellWord(large) })
		quoted := ShellWord(word)
		if got := shell(t, "printf '<%s>' x "+quoted+" y"); got != "<x><"+word+"><y>" {
			t.Errorf("%q is %s, and sh sees %q", word, quoted, got)
		}
	})
}

// TestCommand: each word is quoted, and a flag's value as a whole.
func TestCommand(t *testing.T) {
	for got, want := range map[string]string{
		Command("ip rule add oif a;b lookup 5"): "ip rule add oif 'a;b' lookup 5",
		Command("ip rule add"):                  "ip rule add",
		Flag("gateway", "eth1=ADDR"):            "--gateway eth1=ADDR",
		Flag("gateway", "$(id)=none"):           "--gateway '$(id)=none'",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestSysctl: the form that sysctl(8) needs for each name.
func TestSysctl(t *testing.T) {
	for path, want := range map[string]string{
		"net/ipv4/conf/eth0/rp_filter":     "sysctl -w net.ipv4.conf.eth0.rp_filter=2",
		"net/ipv4/conf/eth0.100/rp_filter": "sysctl -w net/ipv4/conf/eth0.100/rp_filter=2",
		"net/ipv4/conf/a;b/rp_filter":      "sysctl -w 'net.ipv4.conf.a;b.rp_filter=2'",
		"net/ipv4/conf/a=b/rp_filter":      "echo 2 > /proc/sys/net/ipv4/conf/a=b/rp_filter",
	} {
		if got := Sysctl(path, 2); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}

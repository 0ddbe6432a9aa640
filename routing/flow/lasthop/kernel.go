package lasthop

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Kernels from 5.10 on support the mode. But from 4.10 until these releases,
// and until 6.6 in all series that are not here, the kernel goes on with a
// freed packet if the queue of a link drops what a route's program has
// redirected (CVE-2023-53338).
var fixed = map[[2]int]int{{5, 10}: 195, {5, 15}: 132, {6, 1}: 53, {6, 4}: 16, {6, 5}: 3}

// Kernel is what a running kernel reports about itself.
type Kernel struct {
	Release string // uname -r: "6.1.0-25-amd64"
	Version string // uname -v: "#1 SMP PREEMPT_DYNAMIC Debian 6.1.106-3 (2024-08-26)"
	// of Ubuntu, /proc/version_signature: "Ubuntu 5.15.0-91.101-generic
	// 5.15.131"; else ""
	Signature string
}

// Running returns the kernel that runs.
func Running() Kernel {
	var u unix.Utsname
	_ = unix.Uname(&u) // it only fails for a bad pointer
	signature, _ := os.ReadFile("/proc/version_signature")
	return Kernel{unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Version[:]),
		strings.TrimSpace(string(signature))}
}

// Missing returns what the kernel lacks for the programs of this package; "" if
// it lacks nothing. The releases of Debian and Ubuntu hide the stable release
// that they are made from; other fields name it. For any other vendor the
// number counts. known is false if lasthop cannot tell whether the kernel lacks
// something.
func (k Kernel) Missing() (what string, known bool) {
	v := k.stable()
	series := [2]int{v[0], v[1]}
	patch, listed := fixed[series]
	switch {
	case before(series, [2]int{5, 10}):
		return fmt.Sprintf("Linux %s is older than 5.10", k.Release), true
	case !before(series, [2]int{6, 6}) || listed && v[2] >= patch:
		return "", true
	case listed:
		return fmt.Sprintf("Linux %s lacks the fix of CVE-2023-53338, which %d.%d.%d has",
			k.numbered(v), v[0], v[1], patch), true
	}
	return fmt.Sprintf("Linux %s: whether it has the fix of CVE-2023-53338 is not known",
		k.numbered(v)), false
}

// lacks is Missing; with trust, an unknown fix counts as present.
func (k Kernel) lacks(trust bool) string {
	what, known := k.Missing()
	if trust && !known {
		return ""
	}
	return what
}

// numbered is the release, and the stable release that it is made from.
func (k Kernel) numbered(v [3]int) string {
	if number := fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]); !strings.HasPrefix(k.Release,
		number) {
		return k.Release + " (" + number + ")"
	}
	return k.Release
}

// stable is the number of the stable release that a kernel is made from.
func (k Kernel) stable() [3]int {
	if _, debian, ok := strings.Cut(k.Version, " Debian "); ok {
		return number(debian)
	}
	if f := strings.Fields(k.Signature); len(f) == 3 && f[0] == "Ubuntu" {
		return number(f[2])
	}
	return number(k.Release)
}

// number reads the three numbers that a string begins with; a missing number is
// 0.
func number(s string) (n [3]int) {
	for i, part := range strings.SplitN(s, ".", 3) {
		digits := strings.IndexFunc(part, func(r rune) bool { return r < '0' || r > '9' })
		if digits >= 0 {
			part = part[:digits]
		}
		n[i], _ = strconv.Atoi(part)
	}
	return n
}

func before(a, b [2]int) bool { return a[0] < b[0] || a[0] == b[0] && a[1] < b[1] }

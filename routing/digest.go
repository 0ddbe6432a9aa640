package routing

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

// Digest identifies a plan and the changes it means on this host: equal digests
// are equal wanted states, reached by the same writes. It is "sha256:" and 64
// hexadecimal digits.
func (p Plan) Digest(d Diff) string {
	var b strings.Builder
	b.WriteString(p.State.String())
	for _, op := range d.Ops() {
		fmt.Fprintln(&b, op)
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(b.String())))
}

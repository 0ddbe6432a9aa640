package bigip

import (
	"encoding/binary"
	"regexp"
	"strings"
	"unicode/utf16"
)

// pager is what tmsh's pager leaves in captured output: its prompt in reverse
// video or as plain text at the start of a line, and the codes that erase it.
var pager = regexp.MustCompile(`\x1b\[7m[^\x1b\n]*(\x1b\[[0-9;?]*[A-Za-z])*|\x1b\[[0-9;?]*[A-Za-z]|(?m:^---\(less [0-9]+%?\)?-*)|\r`)

// clean returns the text of a file with its lines kept: without byte order
// mark, carriage returns and the pager's traces. Text that is not UTF-8 stays
// as it is.
func clean(data string) string {
	data = strings.TrimPrefix(fromUTF16(data), "\xef\xbb\xbf")
	has := func(part string) bool { return strings.Contains(data, part) }
	if has("\x1b") || has("\r") || has("---(less ") {
		data = pager.ReplaceAllString(data, "")
	}
	return data
}

// fromUTF16 decodes what PowerShell writes for `> file`.
func fromUTF16(data string) string {
	var order binary.ByteOrder = binary.LittleEndian
	switch {
	case strings.HasPrefix(data, "\xff\xfe"):
	case strings.HasPrefix(data, "\xfe\xff"):
		order = binary.BigEndian
	default:
		return data
	}
	units, raw := make([]uint16, 0, len(data)/2), []byte(data)
	for i := 2; i+1 < len(raw); i += 2 {
		units = append(units, order.Uint16(raw[i:]))
	}
	return string(utf16.Decode(units))
}

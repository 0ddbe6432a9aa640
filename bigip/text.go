package bigip

import (
	"bytes"
	"encoding/binary"
	"regexp"
	"unicode/utf16"
)

// pager is what tmsh's pager leaves in captured output: its prompt in reverse
// video or as plain text at the start of a line, and the codes that erase it.
var pager = regexp.MustCompile(`\x1b\[7m[^\x1b\n]*(\x1b\[[0-9;?]*[A-Za-z])*|\x1b\[[0-9;?]*[A-Za-z]|(?m:^---\(less [0-9]+%?\)?-*)|\r`)

// clean returns the text of a file with its lines kept: without byte order
// mark, carriage returns and the pager's traces. What is not UTF-8 stays as it
// is.
func clean(data []byte) []byte {
	data = fromUTF16(data)
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if bytes.ContainsAny(data, "\x1b\r") || bytes.Contains(data, []byte("---(less ")) {
		data = pager.ReplaceAll(data, nil)
	}
	return data
}

// fromUTF16 decodes what PowerShell writes for `> file`.
func fromUTF16(data []byte) []byte {
	var order binary.ByteOrder = binary.LittleEndian
	switch {
	case bytes.HasPrefix(data, []byte("\xff\xfe")):
	case bytes.HasPrefix(data, []byte("\xfe\xff")):
		order = binary.BigEndian
	default:
		return data
	}
	units := make([]uint16, 0, len(data)/2)
	for i := 2; i+1 < len(data); i += 2 {
		units = append(units, order.Uint16(data[i:]))
	}
	return []byte(string(utf16.Decode(units)))
}

# SPDX-License-Identifier: Apache-2.0
#
# The loops of the kernels of one module (-v module=AVX2), for tools/check-kernels. Reads, in this
# order: the rules, the module's Swift sources (names of the closures), "symbol TAB demangled" lines,
# the disassembly. Writes "fault …", "kernel NAME LOOPS PRODUCTS" and "family NAME KERNELS LOOPS
# PRODUCTS STACK" lines.
#
# A loop is what a backward jump closes. The loops looked at are the innermost ones that hold a
# product: there nothing may be spilled or called.

BEGIN { isARM = module == "NEON" }

FNR == 1 {
  kind = FILENAME ~ /\.txt$/ ? "rules" : FILENAME ~ /\.swift$/ ? "source" : FILENAME ~ /names$/ ? "names" : "code"
}

kind == "rules" {
  if ($0 ~ /^#/ || NF == 0) next
  if ($0 ~ /^\[/) { section = substr($1, 2, length($1) - 2); next }
  if (module !~ "^(" $2 ")$" || ($2 == ".*" && (module == "AMX" || isARM))) next
  rules++
  ruleKernel[rules] = $1; ruleInstruction[rules] = $3; ruleProducts[rules] = $4
  ruleFamily[rules] = section; ruleInstances[rules] = $5; ruleStack[rules] = $6
  next
}

# The n-th closure of `install(_ x: inout RowKernels)` fills the field its line names.
kind == "source" {
  if (match($0, /func install\([^)]*inout [A-Za-z]+Kernels\)/)) {
    family = substr($0, RSTART, RLENGTH); sub(/.*inout /, "", family); sub(/\)/, "", family)
    closures = 0
  } else if ($0 ~ /^}/) family = ""
  else if (family != "" && match($0, /^  [a-z]+(\.[A-Za-z0-9_]+)+ = \{/)) {
    text = substr($0, RSTART + 2, RLENGTH - 6)
    field[family, ++closures] = text
  }
  next
}

kind == "names" {
  split($0, part, "\t")
  called[part[1]] = sourceName(part[1], part[2])
  next
}

# "" for what is no kernel: thunks that only jump, unused copies of the C verbs.
function sourceName(symbol, text,   n, f, p) {
  if (symbol ~ /^paft_/ || text ~ /^@objc/) return ""
  if (match(text, /closure #[0-9]+/)) {
    n = substr(text, RSTART + 9, RLENGTH - 9) + 0
    if (match(text, /install( in [^)]*\))?\(inout [A-Za-z.]+/)) {
      f = substr(text, RSTART, RLENGTH); sub(/.*\./, "", f)
      return (f, n) in field ? field[f, n] : f "#" n
    }
  }
  p = ""
  if (match(text, /specialization <[^>]*>/)) {
    p = substr(text, RSTART + 15, RLENGTH - 15); gsub(/ /, "", p)
  }
  sub(/^.*PAFTKernel[A-Z0-9]+\./, "", text)
  sub(/^static /, "", text); sub(/^\(/, "", text); sub(/ in _.*/, "", text); sub(/[(<].*/, "", text)
  return text p
}

# The value of R*C, 2*R*C … for an instance named f<R,C>.
function shape(rule, name,   p, q, terms, i, value) {
  split(name, p, /[<,>]/); split(rule, q, "*")
  value = 1
  for (i = 1; i in q; i++) value *= q[i] == "R" ? p[2] : q[i] == "C" ? p[3] : q[i] == "D" ? p[4] : q[i]
  return value
}

# `want`: ">=N", or a number of which `n` must be a multiple.
function isEnough(n, want) {
  return want ~ /^>=/ ? n >= substr(want, 3) + 0 : n >= want + 0 && n % want == 0
}

function report(   i, j, n, r, rule, want, pattern, from, best, fits, spills, calls, loops, sum, many,
                family) {
  if (name == "" || lines == 0) return
  rule = many = 0
  for (r = 1; r <= rules; r++) if (name ~ "^(" ruleKernel[r] ")$") { rule = r; matched[r]++; break }
  pattern = "^" (rule ? ruleInstruction[rule] : isARM ? ".*v[0-9]+\\.4s" : "v.*[yz]mm")
  for (i = 1; i <= lines; i++) products[i] = products[i - 1] + (code[i] ~ pattern)
  want = rule ? ruleProducts[rule] : ">=1"
  if (want !~ /^>=/) want = shape(want, name)
  best = loops = sum = fits = 0
  for (i = 1; i <= lines; i++) {
    if (jump[i] == "" || !(jump[i] in at) || at[jump[i]] > i) continue
    from = at[jump[i]]
    n = products[i] - products[from - 1]
    # A loop inside that holds a product is looked at in its own turn.
    for (j = from; j < i && n > 0; j++)
      if (jump[j] != "" && jump[j] in at && at[jump[j]] >= from && at[jump[j]] <= j)
        if (products[j] > products[at[jump[j]] - 1]) n = 0
    if (n == 0) continue
    spills = calls = 0
    for (j = from; j <= i; j++) {
      if (code[j] ~ (isARM ? "[[:space:]][qdv][0-9].*\\[(sp|x29)" : "[xyz]mm.*\\(%r[sb]p|\\(%r[sb]p.*[xyz]mm")) spills++
      if (code[j] ~ (isARM ? "^blr?[[:space:]]" : "^call")) calls++
    }
    loops++; sum += n
    if (n > best) best = n
    # A jump back into the code after the loop (a tail that is shared) looks like another loop.
    if (isEnough(n, want)) fits = 1
    if (spills > many) many = spills
    if (calls) print "fault " name ": a loop of " n " products makes " calls " calls"
  }
  if (many > (rule ? ruleStack[rule] + 0 : 0))
    print "fault " name ": a loop touches the stack with " many " vectors"
  if (rule && !fits && !isEnough(best, want))
    print "fault " name ": its loop holds " best " products, expected " want
  if (loops == 0) return
  print "kernel " name " " loops " " best
  family = rule ? ruleFamily[rule] : name ~ /\./ ? name : "other"
  sub(/\..*/, "", family)
  kernels[family]++; familyLoops[family] += loops; familyProducts[family] += sum
  familyStack[family] += many
}

/^[0-9a-f]+ <.*>:$/ {
  report()
  symbol = $2; sub(/^</, "", symbol); sub(/>:$/, "", symbol)
  name = called[symbol]; lines = 0
  delete at; delete jump; delete code
  next
}

name != "" && /^[[:space:]]*[0-9a-f]+:[[:space:]]/ {
  if ($2 ~ /^R_/) next
  lines++
  address = $1; sub(/:$/, "", address); at[address] = lines
  jump[lines] = ""
  if (!isARM && $2 ~ /^j/) { jump[lines] = $3; sub(/^0x/, "", jump[lines]) }
  if (isARM && $2 ~ /^(b|b\..*|cbn?z|tbn?z)$/ && match($0, /0x[0-9a-f]+ </))
    jump[lines] = substr($0, RSTART + 2, RLENGTH - 4)
  code[lines] = $0; sub(/^[[:space:]]*[0-9a-f]+:[[:space:]]+/, "", code[lines])
}

END {
  report()
  for (r = 1; r <= rules; r++)
    if (matched[r] != ruleInstances[r])
      print "fault " ruleKernel[r] ": found " matched[r] + 0 " kernels, expected " ruleInstances[r]
  for (f in kernels) 
    print "family " f " " kernels[f] " " familyLoops[f] " " familyProducts[f] " " familyStack[f]
}

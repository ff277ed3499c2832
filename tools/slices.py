"""Which cells of a notebook does one of its cells need?

Cells are read as Python, not run: a cell needs the last cells before it that bind or change a name which it reads.
"""

import ast
import re
import symtable
from collections.abc import Iterable, Sequence

MAGIC = re.compile(r"(?m)^(\s*)[%!].*$")


def statements(source: str) -> list[ast.stmt]:
    return ast.parse(MAGIC.sub(r"\1pass", source)).body


def scopes(table: symtable.SymbolTable) -> Iterable[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from scopes(child)


def read_by(statement: ast.stmt) -> set[str]:
    """Global names that a statement looks up, also inside its functions."""
    top = symtable.symtable(ast.unparse(statement), "cell", "exec")
    inner = (s for scope in scopes(top) for s in scope.get_symbols() if scope is top or s.is_global())
    read = {symbol.get_name() for symbol in inner if symbol.is_referenced()}
    if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
        read.add(statement.target.id)
    return read


def bound_by(statement: ast.stmt) -> set[str]:
    """Global names that a statement gives a new value."""
    top = symtable.symtable(ast.unparse(statement), "cell", "exec")
    return {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}


def changed_by(statement: ast.stmt) -> set[str]:
    """Names whose objects a statement changes: `x[0] = 1`, `x.y = 1`, `x.update(z)` on a line of its own."""
    changed = set()
    for node in ast.walk(statement):
        places = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            places = [node.value.func]
        for place in places:
            inside = isinstance(place, ast.Attribute | ast.Subscript)
            while isinstance(place, ast.Attribute | ast.Subscript):
                place = place.value
            if inside and isinstance(place, ast.Name):
                changed.add(place.id)
    return changed


def read_in(body: Sequence[ast.stmt]) -> set[str]:
    """Names that statements, one after the other, take from what was there before."""
    read, bound = set(), set()
    for statement in body:
        if isinstance(statement, ast.For):
            inside = read_in(statement.body + statement.orelse)
            targets = {node.id for node in ast.walk(statement.target) if isinstance(node, ast.Name)}
            here = read_by(ast.Expr(statement.iter)) | (inside - targets)
        else:
            here = read_by(statement)
        read |= here - bound
        bound |= bound_by(statement)
    return read


def names_read(source: str) -> set[str]:
    """Names that a cell takes from the cells before it."""
    return read_in(statements(source))


def names_written(source: str) -> set[str]:
    """Names that a cell binds, or whose objects it changes."""
    return set().union(*(bound_by(s) | changed_by(s) for s in statements(source)))


def imported(cells: Sequence[str]) -> set[str]:
    """Names that some cell imports: calls such as `torch.manual_seed(0)` change nothing that others take from them."""
    found = [node for cell in cells for node in statements(cell) if isinstance(node, ast.Import | ast.ImportFrom)]
    return set().union(*map(bound_by, found))


def needed_for(cells: Sequence[str], index: int) -> list[int]:
    """Positions of the code cells to run before cell `index`, in order."""
    needed, wanted, modules = [], names_read(cells[index]), imported(cells)
    for k in reversed(range(index)):
        bound = set().union(*map(bound_by, statements(cells[k])))
        written = (names_written(cells[k]) - modules | bound) & wanted
        if not written:
            continue
        needed.append(k)
        # a name that this cell only binds needs nothing older; one that it reads or changes does
        wanted = (wanted - written) | names_read(cells[k])
    return needed[::-1]


def trained_by(statement: ast.stmt) -> set[str]:
    """Names whose objects a statement hands to `train`, which changes them."""
    calls = (node for node in ast.walk(statement) if isinstance(node, ast.Call) and node.args)
    handed = (call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "train")
    return {first.id for first in handed if isinstance(first, ast.Name)}


def without(cells: Sequence[str], dropped: Iterable[int]) -> list[str]:
    """The cells when some are dropped, and with them all that would notice; of these, only imports are left.

    A dropped cell spoils what it would have bound or changed, itself or by a function it calls, and what was made of
    that before. A name with a new value is good again.
    """
    dropped, modules, left = set(dropped), imported(cells), []
    spoiled: set[str] = set()
    through: dict[str, set[str]] = {}  # what a function of the notebook changes outside itself
    maker: dict[str, int] = {}  # the cell that bound a name last
    for k, cell in enumerate(cells):
        read, parts = names_read(cell), statements(cell)
        bound = set().union(*map(bound_by, parts))
        inside = set().union(*(changed_by(s) | trained_by(s) for s in parts))
        called = set().union(*(through.get(name, set()) for name in read))
        for part in parts:
            if isinstance(part, ast.FunctionDef):
                through[part.name] = ((changed_by(part) | trained_by(part)) & read_by(part)) | called
        if k not in dropped and not read & spoiled:
            left.append(cell)
            spoiled -= bound
            maker |= dict.fromkeys(bound, k)
            continue
        imports = [s for s in parts if isinstance(s, ast.Import | ast.ImportFrom)]
        left.append("\n".join(map(ast.unparse, imports)))
        changed = (bound | inside | called) - modules
        for j in range(k):
            made = {name for name, by in maker.items() if by == j}
            if left[j] == cells[j] and names_read(cells[j]) & changed:
                changed |= made - modules
        spoiled |= changed
    return left

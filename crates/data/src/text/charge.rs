//! Charges templates fuel for the contents of the values they use.
//!
//! The engine charges fuel for instructions and new text, but for a list only its own length. A list
//! that contains one list many times is cheap to make and takes forever to print or compare.
//! [`template`] therefore rewrites the syntax tree. Each expression that makes a container, or whose
//! whole value an operation traverses, becomes an argument of [`FUNCTION`]. That function ([`charge`])
//! traverses the value, charges fuel for its contents, and rejects values that are nested too deep.

use minijinja::machinery::Span;
use minijinja::machinery::ast::{
    self, AutoEscape, BinOp, BinOpKind, Call, CallArg, CallBlock, Compare, CompareOp, Const, Do,
    EmitExpr, Expr, Filter, FilterBlock, ForLoop, GetAttr, GetItem, IfCond, IfExpr, List, Macro,
    Map, Set, SetBlock, Slice, Spanned, Stmt, Test, Tuple, UnaryOp, UnaryOpKind, Var, WithBlock,
};
use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

/// The function that charges for its argument. A template cannot write this name or assign to it.
pub(super) const FUNCTION: &str = "charge for";

/// The function that gives a number the text that it has in Python. As above, no template has this name.
pub(super) const SHOWN: &str = "text of";

/// The filters that escape HTML.
pub(super) const ESCAPES: [&str; 2] = ["e", "escape"];

/// What they are replaced by where their result is not written at once: in Jinja it would escape the text
/// that it is joined with.
pub(super) const ESCAPED_WITHIN: &str = "vxf_escape_within";

/// The maximum nesting depth of containers; conversations and tools need only a few levels.
const DEEPEST: usize = 64;

/// Values per unit of fuel; they take about as long as one instruction.
const VALUES: u64 = 4;

/// Bytes of text per unit of fuel; copying and comparing them is fast.
const BYTES: u64 = 4096;

/// The maximum bytes of text in one container; printing it takes as much memory.
const MOST_TEXT: u64 = 16 << 20;

/// Filters that read only the container, not its contents.
const SHALLOW: [&str; 9] =
    ["length", "count", "first", "last", "list", "items", "reverse", "default", "d"];

/// Charges for the contents of `value`, and returns it.
///
/// # Errors
/// When the fuel is used up, or the value is nested too deep or contains too much text.
pub(super) fn charge(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    if matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) {
        Walk { state, values: 0, bytes: 0 }.through(&value, 0)?;
    }
    Ok(value)
}

/// The traversal of a value, with the contents counted so far.
struct Walk<'a> {
    state: &'a State<'a, 'a>,
    values: u64,
    bytes: u64,
}

impl Walk<'_> {
    fn through(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let refuse = |problem: String| Err(Error::new(ErrorKind::InvalidOperation, problem));
        self.values += 1;
        if self.values.is_multiple_of(VALUES) {
            self.state.consume_fuel(1)?;
        }
        if let Some(text) = value.as_str() {
            let before = self.bytes / BYTES;
            self.bytes += text.len() as u64;
            self.state.consume_fuel(self.bytes / BYTES - before)?;
            if self.bytes > MOST_TEXT {
                return refuse(format!("a list has more than {} MiB of text", MOST_TEXT >> 20));
            }
            return Ok(());
        }
        let kind = value.kind();
        if !matches!(kind, ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) {
            return Ok(());
        }
        if depth == DEEPEST {
            return refuse(format!("lists are nested more than {DEEPEST} deep"));
        }
        for item in value.try_iter()? {
            self.through(&item, depth + 1)?;
            if kind == ValueKind::Map {
                self.through(&value.get_item(&item)?, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// `template` with charges added; its raw text goes through the formatter like all other output.
pub(super) fn template<'a>(template: &Stmt<'a>) -> Stmt<'a> {
    stmt(template)
}

fn stmts<'a>(all: &[Stmt<'a>]) -> Vec<Stmt<'a>> {
    all.iter().map(stmt).collect()
}

fn stmt<'a>(old: &Stmt<'a>) -> Stmt<'a> {
    match old {
        Stmt::Template(it) => {
            Stmt::Template(at(it.span(), ast::Template { children: stmts(&it.children) }))
        }
        Stmt::EmitExpr(it) => {
            let written = match &it.expr {
                // What is written at once cannot meet other text.
                Expr::Filter(last) if ESCAPES.contains(&last.name) => {
                    Expr::Filter(at(last.span(), Filter { name: last.name, ..filter(last) }))
                }
                other => expr(other),
            };
            Stmt::EmitExpr(at(it.span(), EmitExpr { expr: charged(written) }))
        }
        Stmt::EmitRaw(it) => {
            let raw = Expr::Const(at(it.span(), Const { value: Value::from(it.raw) }));
            Stmt::EmitExpr(at(it.span(), EmitExpr { expr: raw }))
        }
        Stmt::ForLoop(it) => {
            let new = ForLoop {
                target: target(&it.target),
                iter: expr(&it.iter),
                filter_expr: it.filter_expr.as_ref().map(expr),
                recursive: it.recursive,
                body: stmts(&it.body),
                else_body: stmts(&it.else_body),
            };
            Stmt::ForLoop(at(it.span(), new))
        }
        Stmt::IfCond(it) => {
            let new = IfCond {
                expr: expr(&it.expr),
                true_body: stmts(&it.true_body),
                false_body: stmts(&it.false_body),
            };
            Stmt::IfCond(at(it.span(), new))
        }
        Stmt::WithBlock(it) => {
            let assignments = it.assignments.iter();
            let assignments = assignments.map(|(name, value)| (target(name), expr(value)));
            let assignments = at_once(it.span(), assignments.collect());
            let new = WithBlock { assignments, body: stmts(&it.body) };
            Stmt::WithBlock(at(it.span(), new))
        }
        Stmt::Set(it) => {
            let value = expr(&it.expr);
            // A namespace is a container too, and a value in it may contain the namespace itself.
            let value = if matches!(it.target, Expr::GetAttr(_)) { charged(value) } else { value };
            Stmt::Set(at(it.span(), Set { target: target(&it.target), expr: value }))
        }
        Stmt::SetBlock(it) => {
            let new = SetBlock {
                target: target(&it.target),
                filter: it.filter.as_ref().map(block_filter),
                body: stmts(&it.body),
            };
            Stmt::SetBlock(at(it.span(), new))
        }
        Stmt::AutoEscape(it) => {
            let new = AutoEscape { enabled: expr(&it.enabled), body: stmts(&it.body) };
            Stmt::AutoEscape(at(it.span(), new))
        }
        Stmt::FilterBlock(it) => {
            let new = FilterBlock {
                filter: block_filter(&it.filter),
                filter_span: it.filter_span,
                body: stmts(&it.body),
            };
            Stmt::FilterBlock(at(it.span(), new))
        }
        Stmt::Macro(it) => Stmt::Macro(at(it.span(), declaration(it))),
        Stmt::CallBlock(it) => {
            let new = CallBlock {
                call: at(it.call.span(), call(&it.call)),
                call_expr_span: it.call_expr_span,
                macro_decl: at(it.macro_decl.span(), declaration(&it.macro_decl)),
            };
            Stmt::CallBlock(at(it.span(), new))
        }
        Stmt::Continue(it) => Stmt::Continue(at(it.span(), ast::Continue)),
        Stmt::Break(it) => Stmt::Break(at(it.span(), ast::Break)),
        Stmt::Do(it) => Stmt::Do(at(it.span(), Do { call: at(it.call.span(), call(&it.call)) })),
    }
}

/// Assigns all values of a block `with` at once: as in Jinja, none of them sees the new variables.
fn at_once<'a>(span: Span, all: Vec<(Expr<'a>, Expr<'a>)>) -> Vec<(Expr<'a>, Expr<'a>)> {
    if all.len() < 2 {
        return all;
    }
    let (names, values) = all.into_iter().unzip();
    let names = Expr::List(at(span, List { items: names }));
    vec![(names, Expr::Tuple(at(span, Tuple { items: values })))]
}

fn at<T>(span: Span, node: T) -> Spanned<T> {
    Spanned::new(node, span)
}

fn declaration<'a>(it: &Macro<'a>) -> Macro<'a> {
    Macro {
        name: it.name,
        args: it.args.iter().map(target).collect(),
        defaults: it.defaults.iter().map(expr).collect(),
        body: stmts(&it.body),
    }
}

/// The target of an assignment: a name, an attribute or a list of them.
fn target<'a>(old: &Expr<'a>) -> Expr<'a> {
    match old {
        Expr::List(it) => {
            Expr::List(at(it.span(), List { items: it.items.iter().map(target).collect() }))
        }
        other => expr(other),
    }
}

/// The filters of a block; the last one has to remain a filter.
fn block_filter<'a>(old: &Expr<'a>) -> Expr<'a> {
    match old {
        Expr::Filter(it) => Expr::Filter(at(it.span(), filter(it))),
        other => expr(other),
    }
}

/// `inner` with a charge; constants need none, because their size is bounded by the template.
fn charged<'a>(inner: Expr<'a>) -> Expr<'a> {
    let is_free = match &inner {
        Expr::Const(_) => true,
        // The recursive call of a loop is a statement of the engine and gives text.
        Expr::Call(call) => {
            matches!(&call.expr, Expr::Var(name) if matches!(name.id, FUNCTION | "loop" | "caller"))
        }
        _ => false,
    };
    if is_free {
        return inner;
    }
    let span = inner.span();
    let function = Expr::Var(at(span, Var { id: FUNCTION }));
    Expr::Call(at(span, Call { expr: function, args: vec![CallArg::Pos(inner)] }))
}

/// `inner` with a charge, as the text that Python would make of it; texts need nothing.
fn shown<'a>(inner: Expr<'a>) -> Expr<'a> {
    if matches!(&inner, Expr::Const(it) if it.value.as_str().is_some()) {
        return inner;
    }
    let (span, inner) = (inner.span(), charged(inner));
    let function = Expr::Var(at(span, Var { id: SHOWN }));
    Expr::Call(at(span, Call { expr: function, args: vec![CallArg::Pos(inner)] }))
}

fn expr<'a>(old: &Expr<'a>) -> Expr<'a> {
    match old {
        Expr::Var(it) => Expr::Var(at(it.span(), Var { id: it.id })),
        Expr::Const(it) => Expr::Const(at(it.span(), Const { value: it.value.clone() })),
        Expr::Slice(it) => {
            let part = |part: &Option<Expr<'a>>| part.as_ref().map(expr);
            let (start, stop, step) = (part(&it.start), part(&it.stop), part(&it.step));
            Expr::Slice(at(it.span(), Slice { expr: expr(&it.expr), start, stop, step }))
        }
        Expr::UnaryOp(it) => {
            #[allow(clippy::needless_match, reason = "it cannot be copied")]
            let op = match it.op {
                UnaryOpKind::Not => UnaryOpKind::Not,
                UnaryOpKind::Neg => UnaryOpKind::Neg,
            };
            Expr::UnaryOp(at(it.span(), UnaryOp { op, expr: expr(&it.expr) }))
        }
        Expr::BinOp(it) => {
            let (left, right) = (expr(&it.left), expr(&it.right));
            let binary = |left, right| Expr::BinOp(at(it.span(), BinOp { op: it.op, left, right }));
            match it.op {
                BinOpKind::Eq
                | BinOpKind::Ne
                | BinOpKind::Lt
                | BinOpKind::Lte
                | BinOpKind::Gt
                | BinOpKind::Gte
                | BinOpKind::In => binary(charged(left), charged(right)),
                BinOpKind::Concat => binary(shown(left), shown(right)),
                BinOpKind::Add | BinOpKind::Mul => charged(binary(left, right)),
                BinOpKind::ScAnd
                | BinOpKind::ScOr
                | BinOpKind::Sub
                | BinOpKind::Div
                | BinOpKind::FloorDiv
                | BinOpKind::Rem
                | BinOpKind::Pow => binary(left, right),
            }
        }
        Expr::Compare(it) => {
            let op = |old: &CompareOp<'a>| CompareOp { op: old.op, expr: charged(expr(&old.expr)) };
            let new =
                Compare { expr: charged(expr(&it.expr)), ops: it.ops.iter().map(op).collect() };
            Expr::Compare(at(it.span(), new))
        }
        Expr::IfExpr(it) => {
            let new = IfExpr {
                test_expr: expr(&it.test_expr),
                true_expr: expr(&it.true_expr),
                false_expr: it.false_expr.as_ref().map(expr),
            };
            Expr::IfExpr(at(it.span(), new))
        }
        Expr::Filter(it) => charged(Expr::Filter(at(it.span(), filter(it)))),
        Expr::Test(it) => {
            let tested = expr(&it.expr);
            // A test without arguments reads only the kind of a value.
            let tested = if it.args.is_empty() { tested } else { charged(tested) };
            let new = Test { name: it.name, expr: tested, args: args(&it.args) };
            Expr::Test(at(it.span(), new))
        }
        Expr::GetAttr(it) => {
            Expr::GetAttr(at(it.span(), GetAttr { expr: expr(&it.expr), name: it.name }))
        }
        Expr::GetItem(it) => {
            let subscript_expr = charged(expr(&it.subscript_expr));
            Expr::GetItem(at(it.span(), GetItem { expr: expr(&it.expr), subscript_expr }))
        }
        Expr::Call(it) => charged(Expr::Call(at(it.span(), call(it)))),
        Expr::List(it) => {
            let items = it.items.iter().map(expr).collect();
            charged(Expr::List(at(it.span(), List { items })))
        }
        Expr::Tuple(it) => {
            let items = it.items.iter().map(expr).collect();
            charged(Expr::Tuple(at(it.span(), Tuple { items })))
        }
        Expr::Map(it) => {
            let keys = it.keys.iter().map(|key| charged(expr(key))).collect();
            let values = it.values.iter().map(expr).collect();
            charged(Expr::Map(at(it.span(), Map { keys, values })))
        }
    }
}

fn filter<'a>(it: &Filter<'a>) -> Filter<'a> {
    let input = it.expr.as_ref().map(expr);
    let input = if SHALLOW.contains(&it.name) { input } else { input.map(charged) };
    let name = if ESCAPES.contains(&it.name) { ESCAPED_WITHIN } else { it.name };
    Filter { name, expr: input, args: args(&it.args) }
}

fn call<'a>(it: &Call<'a>) -> Call<'a> {
    let function = match &it.expr {
        // A method with arguments may compare its whole value with them.
        Expr::GetAttr(method) if !it.args.is_empty() => {
            let new = GetAttr { expr: charged(expr(&method.expr)), name: method.name };
            Expr::GetAttr(at(method.span(), new))
        }
        other => expr(other),
    };
    Call { expr: function, args: args(&it.args) }
}

fn args<'a>(all: &[CallArg<'a>]) -> Vec<CallArg<'a>> {
    let one = |arg: &CallArg<'a>| match arg {
        CallArg::Pos(it) => CallArg::Pos(charged(expr(it))),
        CallArg::Kwarg(name, it) => CallArg::Kwarg(name, charged(expr(it))),
        CallArg::PosSplat(it) => CallArg::PosSplat(charged(expr(it))),
        CallArg::KwargSplat(it) => CallArg::KwargSplat(charged(expr(it))),
    };
    all.iter().map(one).collect()
}

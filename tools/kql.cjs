// Microsoft's Kusto parser and binder: {tables, queries} on standard input, what it finds on standard output.
//   node kql.cjs FOLDER     FOLDER: node_modules/@kusto/language-service-next
const path = require("node:path");
const { readFileSync } = require("node:fs");

const folder = path.resolve(process.argv[2]);
require(path.join(folder, "bridge.min.js"));
require(path.join(folder, "Kusto.Language.Bridge.min.js"));

const { GlobalState, KustoCode, Symbols } = globalThis.Kusto.Language;
const list = (found) => (found ? globalThis.Bridge.toArray(found) : []);
const { tables, queries } = JSON.parse(readFileSync(0, "utf8"));
const symbols = Object.entries(tables).map(([name, columns]) => Symbols.TableSymbol.From(columns).WithName(name));
const globals = GlobalState.Default.WithDatabase(new Symbols.DatabaseSymbol.ctor("insights", symbols));

const found = {};
for (const [name, text] of Object.entries(queries)) {
  const code = KustoCode.ParseAndAnalyze(text, globals);
  found[name] = {
    problems: list(code.GetDiagnostics()).map((each) => [each.Start, `${each.Severity} ${each.Code}: ${each.Message}`]),
    columns: list(code.ResultType?.Columns).map((each) => [each.Name, each.Type.Name]),
  };
}
process.stdout.write(JSON.stringify(found));

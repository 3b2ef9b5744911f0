package match

import "strings"

// land is what normalisers know about a country.
type land struct {
	iso      string // ISO 3166-1 alpha-2
	code     string // calling code, ITU-T E.164
	trunk    string // what is dialled before a national number, or ""
	min, max int    // digits of a national number, over all countries with this calling code
}

// lands has a line per country: alpha-2, alpha-3, calling code, trunk prefix, shortest and longest national number, and
// names (folded, without spaces) in English, German, French, Spanish, Italian, Dutch and the country's own language.
// Sources: ISO 3166-1, CLDR's territory names, ITU-T E.164 and the numbering plans as libphonenumber has them. It is one
// text so that a cold start has nothing to build.
const lands = `
AD AND 376 - 6 9|andorra|andorre|
AE ARE 971 0 5 12|unitedarabemirates|vereinigtearabischeemirate|emiratsarabesunis|emiratosarabesunidos|emiratiarabiuniti|verenigdearabischeemiraten|الإماراتالعربيةالمتحدة|uae|emirates|
AF AFG 93 0 9 9|afghanistan|afganistan|افغانستان|
AG ATG 1 1 10 10|antiguabarbuda|antiguaundbarbuda|antiguaetbarbuda|antiguaybarbuda|antiguaebarbuda|antiguaenbarbuda|
AI AIA 1 1 10 10|anguilla|anguila|
AL ALB 355 0 6 9|albania|albanien|albanie|shqiperi|
AM ARM 374 0 8 8|armenia|armenien|armenie|հայաստան|
AO AGO 244 - 9 9|angola|
AR ARG 54 0 10 11|argentina|argentinien|argentine|argentinie|
AS ASM 1 1 10 10|americansamoa|amerikanischsamoa|samoaamericaines|samoaamericana|samoaamericane|amerikaanssamoa|
AT AUT 43 0 4 13|austria|osterreich|autriche|oostenrijk|
AU AUS 61 0 5 12|australia|australien|australie|
AW ABW 297 - 7 7|aruba|
AX ALA 358 0 5 12|alandislands|alandinseln|ilesaland|islasaland|isolealand|aland|
AZ AZE 994 0 9 9|azerbaijan|aserbaidschan|azerbaidjan|azerbaiyan|azerbaigian|azerbeidzjan|azərbaycan|
BA BIH 387 0 8 9|bosniaherzegovina|bosnienundherzegowina|bosnieherzegovine|bosniayherzegovina|bosniaederzegovina|bosnieenherzegovina|bosnaihercegovina|
BB BRB 1 1 10 10|barbados|barbade|
BD BGD 880 0 6 10|bangladesh|bangladesch|banglades|বাংলাদেশ|
BE BEL 32 0 8 9|belgium|belgien|belgique|belgica|belgio|belgie|
BF BFA 226 - 8 8|burkinafaso|
BG BGR 359 0 6 12|bulgaria|bulgarien|bulgarie|bulgarije|българия|
BH BHR 973 - 8 8|bahrain|bahrein|barein|البحرين|
BI BDI 257 - 8 8|burundi|uburundi|
BJ BEN 229 - 8 10|benin|
BL BLM 590 0 9 9|stbarthelemy|saintbarthelemy|sanbartolome|
BM BMU 1 1 10 10|bermuda|bermudes|bermudas|
BN BRN 673 - 7 7|brunei|bruneidarussalam|
BO BOL 591 0 8 9|bolivia|bolivien|bolivie|plurinationalstateofbolivia|
BQ BES 599 - 7 8|caribbeannetherlands|bonairesinteustatiusundsaba|paysbascaribeens|caribeneerlandes|caraibiolandesi|caribischnederland|
BR BRA 55 0 8 11|brazil|brasilien|bresil|brasil|brasile|brazilie|
BS BHS 1 1 10 10|bahamas|
BT BTN 975 - 7 8|bhutan|bhoutan|butan|འབྲུག|
BW BWA 267 - 7 10|botswana|botsuana|
BY BLR 375 80 6 11|belarus|bielorussie|bielorrusia|bielorussia|беларусь|
BZ BLZ 501 - 7 11|belize|belice|
CA CAN 1 1 10 10|canada|kanada|
CC CCK 61 0 5 12|cocoskeelingislands|kokosinseln|ilescocos|islascocos|isolecocoskeeling|cocoseilanden|
CD COD 243 0 7 10|congokinshasa|kongokinshasa|republicademocraticadelcongo|jamhuriyakidemokrasiayakongo|drcongo|democraticrepublicofthecongo|
CF CAF 236 - 8 8|centralafricanrepublic|zentralafrikanischerepublik|republiquecentrafricaine|republicacentroafricana|repubblicacentrafricana|centraalafrikaanserepubliek|
CG COG 242 - 9 9|congobrazzaville|kongobrazzaville|republicadelcongo|congo|
CH CHE 41 0 9 12|switzerland|schweiz|suisse|suiza|svizzera|zwitserland|swiss|
CI CIV 225 - 10 10|cotedivoire|costadavorio|ivoorkust|ivorycoast|
CK COK 682 - 5 5|cookislands|cookinseln|ilescook|islascook|isolecook|cookeilanden|
CL CHL 56 - 9 11|chile|chili|cile|
CM CMR 237 - 8 9|cameroon|kamerun|cameroun|camerun|kameroen|
CN CHN 86 0 7 12|china|chine|cina|中国|prchina|peoplesrepublicofchina|mainlandchina|
CO COL 57 0 8 11|colombia|kolumbien|colombie|
CR CRI 506 - 8 10|costarica|
CU CUB 53 0 6 10|cuba|kuba|
CV CPV 238 - 7 7|capeverde|caboverde|capvert|capoverde|kaapverdie|
CW CUW 599 - 7 8|curacao|curazao|
CX CXR 61 0 5 12|christmasisland|weihnachtsinsel|ilechristmas|isladenavidad|isolachristmas|christmaseiland|
CY CYP 357 - 8 8|cyprus|zypern|chypre|chipre|cipro|κυπροσ|
CZ CZE 420 - 9 12|czechia|tschechien|tchequie|chequia|cechia|tsjechie|cesko|czechrepublic|
DE DEU 49 0 4 15|germany|deutschland|allemagne|alemania|germania|duitsland|brd|
DJ DJI 253 - 8 8|djibouti|dschibuti|yibuti|gibuti|
DK DNK 45 - 8 8|denmark|danemark|dinamarca|danimarca|denemarken|danmark|
DM DMA 1 1 10 10|dominica|dominique|
DO DOM 1 1 10 10|dominicanrepublic|dominikanischerepublik|republiquedominicaine|republicadominicana|repubblicadominicana|dominicaanserepubliek|
DZ DZA 213 0 8 9|algeria|algerien|algerie|argelia|algerije|الجزائر|
EC ECU 593 0 8 11|ecuador|equateur|
EE EST 372 - 7 10|estonia|estland|estonie|eesti|
EG EGY 20 0 8 10|egypt|agypten|egypte|egipto|egitto|مصر|
EH ESH 212 0 9 9|westernsahara|westsahara|saharaoccidental|saharaoccidentale|westelijkesahara|الصحراءالغربية|
ER ERI 291 0 7 7|eritrea|erythree|ኤርትራ|
ES ESP 34 - 9 9|spain|spanien|espagne|espana|spagna|spanje|
ET ETH 251 0 9 9|ethiopia|athiopien|ethiopie|etiopia|ኢትዮጵያ|
FI FIN 358 0 5 12|finland|finnland|finlande|finlandia|suomi|
FJ FJI 679 - 7 11|fiji|fidschi|fidji|fiyi|figi|
FK FLK 500 - 5 5|falklandislands|falklandinseln|ilesmalouines|islasmalvinas|isolefalkland|falklandeilanden|
FM FSM 691 - 7 7|micronesia|mikronesien|etatsfederesdemicronesie|
FO FRO 298 - 6 6|faroeislands|faroer|ilesferoe|islasferoe|isolefaeroer|faeroer|foroyar|
FR FRA 33 0 9 9|france|frankreich|francia|frankrijk|
GA GAB 241 - 7 8|gabon|gabun|
GB GBR 44 0 7 10|unitedkingdom|vereinigteskonigreich|royaumeuni|reinounido|regnounito|verenigdkoninkrijk|uk|england|scotland|wales|northernireland|greatbritain|britain|
GD GRD 1 1 10 10|grenada|grenade|granada|
GE GEO 995 0 9 9|georgia|georgien|georgie|საქართველო|
GF GUF 594 0 9 9|frenchguiana|franzosischguayana|guyanefrancaise|guayanafrancesa|guyanafrancese|fransguyana|
GG GGY 44 0 7 10|guernsey|guernesey|
GH GHA 233 0 8 9|ghana|gaana|
GI GIB 350 - 8 8|gibraltar|gibilterra|
GL GRL 299 - 6 6|greenland|gronland|groenland|groenlandia|kalaallitnunaat|
GM GMB 220 - 7 7|gambia|gambie|
GN GIN 224 - 8 9|guinea|guinee|
GP GLP 590 0 9 9|guadeloupe|guadalupe|guadalupa|
GQ GNQ 240 - 9 9|equatorialguinea|aquatorialguinea|guineeequatoriale|guineaecuatorial|guineaequatoriale|equatoriaalguinea|
GR GRC 30 - 10 12|greece|griechenland|grece|grecia|griekenland|ελλαδα|el|hellas|
GT GTM 502 - 8 11|guatemala|
GU GUM 1 1 10 10|guam|
GW GNB 245 - 7 9|guineabissau|guineebissau|guineabisau|guinebissau|
GY GUY 592 - 7 7|guyana|
HK HKG 852 - 5 11|hongkongsarchina|sonderverwaltungsregionhongkong|raschinoisedehongkong|raedehongkongchina|rasdihongkong|hongkongsarvanchina|中国香港特别行政区|hongkong|
HN HND 504 - 8 11|honduras|
HR HRV 385 0 7 9|croatia|kroatien|croatie|croacia|croazia|kroatie|hrvatska|
HT HTI 509 - 8 8|haiti|
HU HUN 36 06 8 9|hungary|ungarn|hongrie|hungria|ungheria|hongarije|magyarorszag|
ID IDN 62 0 7 15|indonesia|indonesien|indonesie|
IE IRL 353 0 7 10|ireland|irland|irlande|irlanda|ierland|republicofireland|eire|
IL ISR 972 0 7 12|israel|israele|ישראל|
IM IMN 44 0 7 10|isleofman|iledeman|islademan|isoladiman|
IN IND 91 0 8 13|india|indien|inde|भारत|
IO IOT 246 - 7 7|britishindianoceanterritory|britischesterritoriumimindischenozean|territoirebritanniquedeloceanindien|territoriobritanicodeloceanoindico|territoriobritannicodelloceanoindiano|britsindischeoceaanterritorium|
IQ IRQ 964 0 8 10|iraq|irak|العراق|
IR IRN 98 0 4 10|iran|ایران|islamicrepublicofiran|
IS ISL 354 - 7 9|iceland|island|islande|islandia|islanda|ijsland|
IT ITA 39 - 6 12|italy|italien|italie|italia|
JE JEY 44 0 7 10|jersey|
JM JAM 1 1 10 10|jamaica|jamaika|jamaique|giamaica|
JO JOR 962 0 8 9|jordan|jordanien|jordanie|jordania|giordania|الأردن|
JP JPN 81 0 8 15|japan|japon|giappone|日本|
KE KEN 254 0 7 10|kenya|kenia|
KG KGZ 996 0 9 10|kyrgyzstan|kirgisistan|kirghizistan|kirguistan|kirgizie|кыргызстан|
KH KHM 855 0 8 10|cambodia|kambodscha|cambodge|camboya|cambogia|cambodja|កម្ពុជា|
KI KIR 686 0 5 8|kiribati|
KM COM 269 - 7 7|comoros|komoren|comores|comoras|comore|comoren|جزرالقمر|
KN KNA 1 1 10 10|stkittsnevis|stkittsundnevis|saintchristopheetnieves|sancristobalynieves|saintkittsenevis|saintkittsennevis|
KP PRK 850 0 8 10|northkorea|nordkorea|coreedunord|coreadelnorte|coreadelnord|noordkorea|북한|dprk|
KR KOR 82 0 5 14|southkorea|sudkorea|coreedusud|coreadelsur|coreadelsud|zuidkorea|대한민국|korea|republicofkorea|
KW KWT 965 - 7 8|kuwait|koweit|koeweit|الكويت|
KY CYM 1 1 10 10|caymanislands|kaimaninseln|ilescaimans|islascaiman|isolecayman|kaaimaneilanden|
KZ KAZ 7 8 10 14|kazakhstan|kasachstan|kazajistan|kazakistan|kazachstan|казахстан|
LA LAO 856 0 8 10|laos|ລາວ|lao|
LB LBN 961 0 7 8|lebanon|libanon|liban|libano|لبنان|
LC LCA 1 1 10 10|stlucia|saintelucie|santalucia|saintlucia|
LI LIE 423 0 7 9|liechtenstein|
LK LKA 94 0 9 9|srilanka|ශ්රීලංකාව|
LR LBR 231 0 7 9|liberia|
LS LSO 266 - 8 8|lesotho|lesoto|
LT LTU 370 0 8 8|lithuania|litauen|lituanie|lituania|litouwen|lietuva|
LU LUX 352 - 4 11|luxembourg|luxemburg|luxemburgo|lussemburgo|
LV LVA 371 - 8 8|latvia|lettland|lettonie|letonia|lettonia|letland|latvija|
LY LBY 218 0 9 9|libya|libyen|libye|libia|libie|ليبيا|
MA MAR 212 0 9 9|morocco|marokko|maroc|marruecos|marocco|المغرب|
MC MCO 377 0 8 9|monaco|
MD MDA 373 0 8 8|moldova|republikmoldau|moldavie|moldavia|republicamoldova|republicofmoldova|
ME MNE 382 0 8 9|montenegro|црнагора|
MF MAF 590 0 9 9|stmartin|saintmartin|sanmartin|
MG MDG 261 0 9 9|madagascar|madagaskar|madagasikara|
MH MHL 692 1 7 7|marshallislands|marshallinseln|ilesmarshall|islasmarshall|isolemarshall|marshalleilanden|
MK MKD 389 0 8 8|macedonia|mazedonien|macedoine|repubblicadimacedonia|macedonie|македонија|
ML MLI 223 - 8 8|mali|
MM MMR 95 0 6 10|myanmarburma|myanmar|myanmarbirmanie|myanmarbirmania|myanmarbirma|မြန်မာ|burma|
MN MNG 976 0 8 10|mongolia|mongolei|mongolie|монгол|
MO MAC 853 - 7 8|macausarchina|sonderverwaltungsregionmacau|raschinoisedemacao|raedemacaochina|rasdimacao|macausarvanchina|中国澳门特别行政区|macau|macao|
MP MNP 1 1 10 10|northernmarianaislands|nordlichemarianen|ilesmariannesdunord|islasmarianasdelnorte|isolemariannesettentrionali|noordelijkemarianen|
MQ MTQ 596 0 9 9|martinique|martinica|
MR MRT 222 - 8 8|mauritania|mauretanien|mauritanie|موريتانيا|
MS MSR 1 1 10 10|montserrat|
MT MLT 356 - 8 8|malta|malte|
MU MUS 230 - 7 10|mauritius|maurice|mauricio|moris|
MV MDV 960 - 7 10|maldives|malediven|maldivas|maldive|maldiven|
MW MWI 265 0 7 9|malawi|malaui|
MX MEX 52 - 10 10|mexico|mexiko|mexique|messico|
MY MYS 60 0 8 10|malaysia|malaisie|malasia|maleisie|
MZ MOZ 258 - 8 9|mozambique|mosambik|mozambico|mocambique|
NA NAM 264 0 8 9|namibia|namibie|
NC NCL 687 - 6 6|newcaledonia|neukaledonien|nouvellecaledonie|nuevacaledonia|nuovacaledonia|nieuwcaledonie|
NE NER 227 - 8 8|niger|nijar|
NF NFK 672 - 6 6|norfolkisland|norfolkinsel|ilenorfolk|islanorfolk|isolanorfolk|norfolk|
NG NGA 234 0 10 14|nigeria|
NI NIC 505 - 8 8|nicaragua|
NL NLD 31 0 5 11|netherlands|niederlande|paysbas|paisesbajos|paesibassi|nederland|holland|thenetherlands|
NO NOR 47 - 5 8|norway|norwegen|norvege|noruega|norvegia|noorwegen|norge|
NP NPL 977 0 8 11|nepal|नेपाल|
NR NRU 674 - 7 7|nauru|
NU NIU 683 - 4 7|niue|
NZ NZL 64 0 5 10|newzealand|neuseeland|nouvellezelande|nuevazelanda|nuovazelanda|nieuwzeeland|
OM OMN 968 - 7 9|oman|عُمان|
PA PAN 507 - 7 11|panama|
PE PER 51 0 8 9|peru|perou|
PF PYF 689 - 6 9|frenchpolynesia|franzosischpolynesien|polynesiefrancaise|polinesiafrancesa|polinesiafrancese|franspolynesie|
PG PNG 675 - 7 8|papuanewguinea|papuaneuguinea|papouasienouvelleguinee|papuanuevaguinea|papuanuovaguinea|papoeanieuwguinea|
PH PHL 63 0 6 13|philippines|philippinen|filipinas|filippine|filipijnen|pilipinas|
PK PAK 92 0 8 12|pakistan|پاکستان|
PL POL 48 - 6 10|poland|polen|pologne|polonia|polska|
PM SPM 508 0 6 9|stpierremiquelon|stpierreundmiquelon|saintpierreetmiquelon|sanpedroymiquelon|saintpierreemiquelon|saintpierreenmiquelon|
PR PRI 1 1 10 10|puertorico|portorico|
PS PSE 970 0 8 10|palestinianterritories|palastinensischeautonomiegebiete|territoirespalestiniens|territoriospalestinos|territoripalestinesi|palestijnsegebieden|الأراضيالفلسطينية|palestine|
PT PRT 351 - 9 9|portugal|portogallo|
PW PLW 680 - 7 7|palau|palaos|
PY PRY 595 0 6 11|paraguay|
QA QAT 974 - 7 11|qatar|katar|catar|قطر|
RE REU 262 0 9 9|reunion|lareunion|riunione|
RO ROU 40 0 6 9|romania|rumanien|roumanie|rumania|roemenie|
RS SRB 381 0 6 12|serbia|serbien|serbie|servie|србија|
RU RUS 7 8 10 14|russia|russland|russie|rusia|rusland|россия|russianfederation|
RW RWA 250 0 8 9|rwanda|ruanda|urwanda|
SA SAU 966 0 9 10|saudiarabia|saudiarabien|arabiesaoudite|arabiasaudi|arabiasaudita|saoediarabie|المملكةالعربيةالسعودية|
SB SLB 677 - 5 7|solomonislands|salomonen|ilessalomon|islassalomon|isolesalomone|salomonseilanden|
SC SYC 248 - 7 7|seychelles|seychellen|
SD SDN 249 0 9 9|sudan|soudan|soedan|السودان|
SE SWE 46 0 6 12|sweden|schweden|suede|suecia|svezia|zweden|sverige|
SG SGP 65 - 8 11|singapore|singapur|singapour|
SH SHN 290 - 4 5|sthelena|saintehelene|santaelena|santelena|sinthelena|
SI SVN 386 0 5 8|slovenia|slowenien|slovenie|eslovenia|slovenija|
SJ SJM 47 - 5 8|svalbardjanmayen|spitzbergenundjanmayen|svalbardetjanmayen|svalbardyjanmayen|svalbardejanmayen|spitsbergenenjanmayen|svalbardogjanmayen|
SK SVK 421 0 6 9|slovakia|slowakei|slovaquie|eslovaquia|slovacchia|slowakije|slovensko|slovakrepublic|
SL SLE 232 0 8 8|sierraleone|sierraleona|
SM SMR 378 - 8 10|sanmarino|saintmarin|
SN SEN 221 - 9 9|senegal|
SO SOM 252 0 6 9|somalia|somalie|soomaaliya|
SR SUR 597 - 6 7|suriname|surinam|
SS SSD 211 0 9 9|southsudan|sudsudan|soudandusud|sudandelsur|zuidsoedan|
ST STP 239 - 7 7|saotomeprincipe|saotomeundprincipe|saotomeetprincipe|santotomeyprincipe|saotomeeprincipe|saotomeenprincipe|
SV SLV 503 - 7 11|elsalvador|salvador|
SX SXM 1 1 10 10|sintmaarten|saintmartinpartieneerlandaise|
SY SYR 963 0 8 9|syria|syrien|syrie|siria|سوريا|syrianarabrepublic|
SZ SWZ 268 - 8 9|swaziland|swasiland|suazilandia|
TC TCA 1 1 10 10|turkscaicosislands|turksundcaicosinseln|ilesturquesetcaiques|islasturcasycaicos|isoleturksecaicos|turksencaicoseilanden|
TD TCD 235 - 8 8|chad|tschad|tchad|ciad|tsjaad|
TG TGO 228 - 8 8|togo|
TH THA 66 0 8 13|thailand|thailande|tailandia|thailandia|ไทย|
TJ TJK 992 - 9 9|tajikistan|tadschikistan|tadjikistan|tayikistan|tagikistan|tadzjikistan|тоҷикистон|
TK TKL 690 - 4 7|tokelau|tokelaou|
TL TLS 670 - 7 8|timorleste|timororiental|timorest|oosttimor|easttimor|
TM TKM 993 8 8 8|turkmenistan|
TN TUN 216 - 8 8|tunisia|tunesien|tunisie|tunez|tunesie|تونس|
TO TON 676 - 5 7|tonga|
TR TUR 90 0 7 13|turkey|turkei|turquie|turquia|turchia|turkije|turkiye|
TT TTO 1 1 10 10|trinidadtobago|trinidadundtobago|triniteettobago|trinidadytobago|trinidadetobago|trinidadentobago|
TV TUV 688 - 5 7|tuvalu|
TW TWN 886 0 7 11|taiwan|台湾|taiwanroc|roc|
TZ TZA 255 0 9 9|tanzania|tansania|tanzanie|unitedrepublicoftanzania|
UA UKR 380 0 9 10|ukraine|ucrania|ucraina|oekraine|украіна|
UG UGA 256 0 9 9|uganda|ouganda|oeganda|
US USA 1 1 10 10|unitedstates|vereinigtestaaten|etatsunis|estadosunidos|statiuniti|verenigdestaten|unitedstatesofamerica|america|usofa|
UY URY 598 0 4 13|uruguay|
UZ UZB 998 - 9 9|uzbekistan|usbekistan|ouzbekistan|oezbekistan|oʻzbekiston|
VA VAT 39 - 6 12|vaticancity|vatikanstadt|etatdelaciteduvatican|ciudaddelvaticano|cittadelvaticano|vaticaanstad|holysee|vatican|
VC VCT 1 1 10 10|stvincentgrenadines|stvincentunddiegrenadinen|saintvincentetlesgrenadines|sanvicenteylasgranadinas|saintvincentegrenadine|saintvincentendegrenadines|
VE VEN 58 0 10 10|venezuela|bolivarianrepublicofvenezuela|
VG VGB 1 1 10 10|britishvirginislands|britischejungferninseln|ilesviergesbritanniques|islasvirgenesbritanicas|isoleverginibritanniche|britsemaagdeneilanden|
VI VIR 1 1 10 10|usvirginislands|amerikanischejungferninseln|ilesviergesdesetatsunis|islasvirgenesdeeeuu|isoleverginiamericane|amerikaansemaagdeneilanden|
VN VNM 84 0 7 10|vietnam|
VU VUT 678 - 5 7|vanuatu|
WF WLF 681 - 6 9|wallisfutuna|wallisundfutuna|wallisetfutuna|wallisyfutuna|wallisefutuna|wallisenfutuna|
WS WSM 685 - 5 10|samoa|
XK XKK 383 0 8 12|kosovo|kosove|
YE YEM 967 0 7 9|yemen|jemen|اليمن|
YT MYT 262 0 9 9|mayotte|
ZA ZAF 27 0 5 10|southafrica|sudafrika|afriquedusud|sudafrica|zuidafrika|
ZM ZMB 260 0 9 9|zambia|sambia|zambie|
ZW ZWE 263 0 5 10|zimbabwe|simbabwe|zimbabue|
`

// landOf finds a country by alpha-2, alpha-3 or a name.
func landOf(name string) (land, bool) {
	name = strings.ReplaceAll(fold(name), " ", "")
	if len(name) < 2 {
		return land{}, false
	}
	at := -1
	switch upper := strings.ToUpper(name); len(name) {
	case 2:
		at = strings.Index(lands, "\n"+upper+" ")
	case 3:
		if at = strings.Index(lands, " "+upper+" ") - len("\nXX"); at >= 0 && lands[at] != '\n' {
			at = -1 // a calling code
		}
	}
	if at < 0 {
		if at = strings.Index(lands, joiner+name+joiner); at < 0 {
			return land{}, false
		}
		at = strings.LastIndexByte(lands[:at], '\n')
	}
	return parseLand(at), true
}

// landOfCode finds a country with the calling code that digits begin with.
func landOfCode(digits string) (land, bool) {
	for n := 1; n <= min(3, len(digits)); n++ {
		// A code stands third; the sixth character before it begins the line.
		for from := 0; ; {
			i := strings.Index(lands[from:], " "+digits[:n]+" ")
			if i < 0 {
				break
			}
			from += i
			if at := from - len("\nXX XXX"); at >= 0 && lands[at] == '\n' {
				return parseLand(at), true
			}
			from++
		}
	}
	return land{}, false
}

// parseLand reads the line that begins after the line feed at position at.
func parseLand(at int) land {
	line := lands[at+1:]
	line = line[:strings.IndexByte(line, '|')]
	f := strings.Fields(line)
	l := land{iso: f[0], code: f[2], trunk: f[3], min: number(f[4]), max: number(f[5])}
	if l.trunk == "-" {
		l.trunk = ""
	}
	return l
}

// number reads what the table holds: one or two digits.
func number(s string) int {
	n := 0
	for i := range len(s) {
		n = n*10 + int(s[i]-'0')
	}
	return n
}

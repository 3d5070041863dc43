"""More subjects of the embedded pack's prompts, for the second part that `smollm2_prompts.py` writes."""

from __future__ import annotations

THINGS = """
how soap cleans; why bread rises; how a microwave oven heats food; how a zipper works; how ballpoint pens work; how
locks and keys work; how a thermos keeps drinks hot; how a pendulum clock keeps time; how a lighthouse lens works; how
sewing machines make a stitch; how elevators stay safe; how traffic lights are timed; how a water tower works; how
sewage is cleaned; how airbags work; how brakes stop a car; how a jet engine works; how helicopters steer; how
submarines dive; how hot air balloons fly; how gliders stay up; how parachutes open; how cranes lift heavy loads; how
tunnels are dug; how concrete hardens; how bricks are made; how paint dries; how glue sticks; how batteries store
energy; how a transistor works; how a barcode is read; how GPS finds a position; how radio waves carry music; how
noise-cancelling headphones work; how a touchscreen feels a finger; how digital cameras see colour; how 3D printers
build things; how a laser works; how X-ray pictures are made; how fibre-optic cables carry data; how e-mail travels;
what cookies on websites are; what a firewall does; two-factor authentication; open-source software; version control;
what an API is; how file compression works; binary numbers; recursion; what a compiler does; spreadsheets; computer
viruses; deepfakes; chatbots; drones; smart meters; heat pumps; geothermal energy; tidal power; hydrogen as a fuel;
carbon dioxide; the ozone layer; acid rain; microplastics; soil erosion; crop rotation; irrigation; greenhouses;
beekeeping; fish farming; wetlands; mangroves; peat bogs; savannas; tundra; caves; geysers; fjords; river deltas; sand
dunes; hurricanes; tornadoes; lightning; hail; fog; rainbows; the northern lights; mirages; the jet stream; monsoons;
El Nino; tsunamis; avalanches; fossils; diamonds; salt mines; limestone; granite; meteorites; comets; eclipses; the
phases of the Moon; Saturn's rings; Jupiter; Venus; Pluto; the Milky Way; supernovas; light years; exoplanets; the
space station; spacesuits; rockets; absolute zero; friction; inertia; buoyancy; surface tension; static electricity;
echoes; the Doppler effect; levers and pulleys; entropy; half-life; isotopes; catalysts; crystals; polymers;
fermentation; distillation; octopuses; whales; elephants; penguins; owls; wolves; ants; spiders; sharks; sea turtles;
hummingbirds; chameleons; kangaroos; camels; polar bears; hedgehogs; earthworms; jellyfish; salmon; crows; squirrels;
cicadas; mushrooms; lichens; moss; ferns; cacti; bamboo; oak trees; orchids; carnivorous plants; seaweed; pollination;
camouflage; hibernation; symbiosis; food chains; the kidneys; the liver; the lungs; bones; muscles; skin; teeth; blood
types; hormones; digestion; allergies; asthma; migraines; diabetes; high blood pressure; the common cold; fever;
antibiotics; anaesthesia; blood donation; first aid; jet lag; dreams; yawning; hiccups; habits; phobias; empathy;
optical illusions; the placebo effect; confirmation bias; procrastination; body language; fibre in food; protein; salt
in the diet; probiotics; food labels; the Bronze Age; Stonehenge; Mesopotamia; the Phoenicians; Sparta; Carthage; the
Vikings; the Mongol Empire; the Black Death; the Crusades; samurai; the Ming dynasty; the Inca; the Maya; the Ottoman
Empire; the Hanseatic League; the Gold Rush; the building of the Suez Canal; the abolition of slavery; women's right
to vote; the Berlin Wall; the Cold War; the telegraph; the steam engine; the telephone; the light bulb; the bicycle's
history; the microscope; penicillin; the compass; gunpowder; the wheel; the abacus; the typewriter; shipping
containers; passports; contracts; patents; copyright; juries; wills; consumer rights; minimum wage; pensions;
mortgages; credit scores; budgets of a state; compound interest; opportunity cost; monopolies; tariffs; exchange
rates; central banks; bonds; crowdfunding; the sharing economy; cooperatives; trade unions; tourism; remote work;
urban planning; public transport; homelessness; literacy; volunteering; stoicism; utilitarianism; free will; the
trolley problem; Socrates; logic; scepticism; beauty; friendship; happiness; justice; courage; honesty; haiku;
sonnets; fables; science fiction; detective stories; comic books; animation; ballet; flamenco; blues; hip-hop; folk
songs; the violin; drums; choirs; film music; impressionism; mosaics; calligraphy; origami; pottery; weaving;
knitting; embroidery; woodcarving; blacksmithing; stained glass; perfume; tattoos; fashion; wedding customs; carnival;
New Year around the world; tea ceremonies; street food; pizza; sushi; curry; tofu; yoghurt; pickles; vinegar; chilli
peppers; vanilla; cinnamon; garlic; potatoes; maize; bananas; avocados; mangoes; nuts; ice cream; noodles; tennis;
cricket; rugby; ice hockey; volleyball; marathons; cycling races; gymnastics; judo; fencing; rowing; skiing; surfing;
rock climbing; golf; table tennis; archery; the Paralympics; Norway; Iceland; Portugal; Turkey; Morocco; Ethiopia;
South Africa; Peru; Argentina; Chile; Vietnam; Thailand; Indonesia; South Korea; New Zealand; Cuba; Poland;
Switzerland; the Nile; the Danube; the Mediterranean Sea; the Alps; the Great Barrier Reef; the Panama Canal; Venice;
Timbuktu
""".replace("\n", " ").split(";")

SKILLS = """
sharpen a kitchen knife; poach an egg; cook dried beans; make jam; bake a birthday cake; make fresh pasta; season a
cast-iron pan; roast vegetables; freeze leftovers safely; cook for one person; make good coffee at home; brew iced
tea; carve a pumpkin; set a table; open a stuck jar; descale a kettle; get rid of fruit flies; keep moths out of a
wardrobe; remove candle wax from a carpet; wash a wool sweater; sew on a button; shorten trousers; patch a hole in
jeans; polish leather shoes; wrap a present; tie a tie; clean windows without streaks; organise a small wardrobe;
declutter a garage; move house without stress; assemble flat-pack furniture; fix a dripping tap; bleed a radiator;
insulate a draughty window; put up a shelf; sand a wooden table; lay tiles; build a birdhouse; prune a rose bush;
repot an orchid; grow herbs indoors; start a lawn from seed; keep slugs away; attract butterflies to a garden; collect
rainwater; raise chickens; teach a parrot to speak; bathe a dog; introduce a new cat to an old one; set up an
aquarium; jump-start a car; check the tyre pressure; parallel park; tow a trailer; ride a bicycle in traffic; pack a
rucksack; put up a tent in the wind; light a campfire; read a compass; find north without a compass; forecast the
weather from clouds; paddle a canoe; throw a frisbee; do a push-up correctly; train for a ten-kilometre race; juggle
three balls; skip stones; play chess openings; solve a sudoku; shuffle cards; do a simple magic trick; fold a paper
plane; learn to whistle; sing in tune; tune a guitar; read sheet music; dance a waltz; draw hands; mix watercolours;
make a collage; take a portrait photo; edit a short video; record a podcast; write a haiku; write a film review; write
a cover letter; take good notes in class; cite sources; prepare a science fair project; memorise a poem; learn the
multiplication table; do long division; study for several exams at once; touch type; make a pivot table; merge cells
without losing data; write a clear bug report; free up space on a phone; spot a phishing message; set up a home
network; recover a deleted file; protect my privacy online; use a library catalogue; cancel a subscription; return a
faulty product; negotiate the rent; read a payslip; pay off a credit card; save for retirement; compare insurance
offers; split costs with flatmates; welcome a new colleague; say no politely; delegate work; handle criticism; make
small talk; write a eulogy; propose a toast; comfort someone who is grieving; teach a child to share; help a toddler
fall asleep; talk with a teenager about money; babysit three children; visit someone in hospital; change a nappy;
bandage a sprained ankle; remove a splinter; protect my back at a desk; rest my eyes at a screen; relax before a
flight
""".replace("\n", " ").split(";")

PROGRAMS = """
rotates a list by k places; finds the missing number in a sequence from 1 to n; checks whether brackets are balanced;
converts Roman numerals to integers; converts an integer to Roman numerals; encodes text with a Caesar cipher;
translates text to Morse code; compresses a string by counting repeated letters; wraps a long text at a given width;
removes all punctuation from a text; swaps the keys and values of a dictionary; sorts a dictionary by its values;
merges two dictionaries and adds equal keys; finds the mode of a list; computes the median; computes the standard
deviation; normalises numbers to the range from 0 to 1; finds the first letter that does not repeat; finds the longest
common prefix of some words; finds all permutations of a string; lists all subsets of a set; computes the power set
size; solves a quadratic equation; finds the least common multiple; factors a number into primes; lists primes with
the sieve of Eratosthenes; checks whether a year is a leap year; tells the day of the week of a date; counts the days
between two dates; formats seconds as hours, minutes and seconds; converts miles to kilometres; converts between RGB
and hex colours; computes the body mass index; computes compound interest; makes a loan repayment table; adds tax to a
list of prices; prints a receipt for a shopping cart; stores contacts in a phone book; counts votes and names the
winner; grades a list of test scores; shuffles a deck of cards and deals hands; plays rock, paper, scissors; plays
hangman in the terminal; plays tic-tac-toe for two players; lets the user guess a secret number; makes a simple quiz
from a list of questions; simulates a vending machine; simulates a traffic light; models a bank account with deposits;
models a parking garage; implements a linked list; implements a binary search tree; implements a priority queue;
implements a least-recently-used cache; finds the shortest path in a grid; walks through a graph breadth first;
detects a cycle in a linked list; reverses a linked list; sorts with merge sort; sorts with insertion sort; sorts
words by length and then by alphabet; finds two numbers that add up to a target; finds the largest sum of neighbouring
elements; counts the islands in a grid; fills a spiral matrix; multiplies two matrices; rotates an image given as rows
of pixels; prints Pascal's triangle; prints a chessboard with characters; draws a bar chart with text; renames all
files in a folder; finds the largest files in a directory; counts the lines of code in a project; watches a log file
for errors; searches a text file for a word; joins several text files into one; reads settings from an INI file;
parses command-line arguments; converts a CSV file to JSON; filters rows of a table by a condition; calls a web
service and handles errors; retries a failing function three times; caches the results of a slow function; logs every
call of a function with a decorator; reads numbers until the user types stop; validates a credit card number with the
Luhn rule; checks the strength of a password; hides all but the last four digits of a number; extracts all links from
a page; counts the unique visitors in a list of events; debounces a button click; counts down to a given date;
generates a random maze; makes a random sentence from lists of words
""".replace("\n", " ").split(";")

PAIRS = """
owls and hawks; crocodiles and alligators; moths and butterflies; turtles and tortoises; dolphins and porpoises;
horses and donkeys; wolves and dogs; bees and wasps; ravens and crows; ducks and geese; hurricanes and tornadoes; fog
and clouds; lava and magma; lakes and lagoons; oceans and seas; deserts and steppes; comets and asteroids; Mars and
Venus; solar and lunar eclipses; mass and weight; heat and temperature; series and parallel circuits; conductors and
insulators; arteries and veins; mitosis and meiosis; a cold and the flu; vitamins and minerals; baking soda and baking
powder; jam and marmalade; brown rice and white rice; yoghurt and kefir; red wine and white wine; frying and roasting;
fresh and frozen vegetables; stoves with gas and with induction; wool and cotton; linen and silk; ceramic and
porcelain; oil paint and watercolour; sculpture and pottery; ballet and hip-hop dance; violins and cellos; acoustic
and electric guitars; operas and musicals; comedies and tragedies; fiction and biography; fables and fairy tales;
similes and metaphors; affect and effect; speaking and writing; hardware and software; compilers and interpreters; RAM
and a hard disk; HTML and CSS; arrays and linked lists; threads and processes; tuples and lists in Python; == and ===
in JavaScript; phones and desktop computers; streaming and owning films; paper books and e-books; stocks and bonds;
debit cards and credit cards; leasing and buying a car; wages and salaries; civil and criminal law; republics and
kingdoms; villages and suburbs; trams and buses; sailing and rowing; skiing and snowboarding; tennis and badminton;
yoga and pilates; camping and hotels; morning people and night owls; leading and managing; optimism and realism; habit
and routine
""".replace("\n", " ").split(";")

LETTERS = """
a broken lift in our building; a cat that went missing on Tuesday; a garden wall that needs repair; the recycling bins
that were not emptied; a surprise party for a retiring colleague; a school trip to the planetarium; a pupil who was
ill for two weeks; a lost library book; a bicycle left in the hallway; a leak in the bathroom ceiling; a double charge
on a bank statement; a cracked phone screen under warranty; a cancelled concert; an overbooked hotel; a very friendly
bus driver; a cold meal on a flight; a job offer that must be declined; a change of the team's meeting time; a
volunteer day at the animal shelter; a charity bake sale; the theft of a garden gnome; a neighbour's barking dog; an
internship in a museum; a scholarship for a music school; a request to use a photograph; a missed deadline and a new
date; the opening of a small bakery; new opening hours at the pool; a water cut on Thursday morning; a road closed for
a street festival; a lost wallet that was found; a thank-you for three years of mentoring; a friend's move to another
country; a wedding that had to be postponed; the birth of twins; a grandmother's ninetieth birthday; an old teacher
who inspired me; a reference for a former tenant; an increase in the rent; a heating that does not work; a wrong size
of shoes; a bouquet that arrived wilted; a magazine subscription to end; a software bug that deletes drafts; an
invitation to a book club; a football coach who is leaving; a request for quiet during exams; an unpaid bill from
March; an offer for painting an office; a survey about lunch in the canteen; a plan to share a car to work; a delay of
a building project
""".replace("\n", " ").split(";")

PEOPLE = """
a retired circus acrobat; a beekeeper with a secret map; a boy who collects sounds; a translator who lost a word; a
postwoman on skis; twin magicians; a giant who wants to be small; a scarecrow that dreams; a night watchman; a watch
repairer's daughter; a fox who studies law; a tired superhero; a mapmaker; a ferry captain; a young ghost; a poet
without a pen; a mountain guide; a seamstress; a glassblower; an old sea turtle; a train conductor; a marine
biologist; a girl raised by librarians; an apprentice wizard; a clumsy butler; a puppet maker; a bridge engineer; a
radio host; a bus driver who sings; a snail in a hurry; a king without a country; a grandmother who codes; a
stonemason; a truffle hunter; a lost tourist; a referee; a chimney sweep; a deep-sea diver; a violin that can speak; a
mathematician on holiday; a weather forecaster; a piano tuner; a gravedigger with a sense of humour; a spy who hates
lying; a carpenter and her dog; a shy vampire; an exchange student; a midwife; a farmer who paints; two rival pastry
cooks; a hermit; a substitute teacher
""".replace("\n", " ").split(";")

PLACES = """
a lighthouse in winter; a floating market; an abandoned fairground; a salt desert; a mountain monastery; a submarine;
a tree house; a night train; a city under the sea; a vineyard; a roof garden; a frozen lake; a laundromat; a cave of
crystals; a royal kitchen; an airport at midnight; a village without clocks; a moon base; a toy factory; a canal boat;
a flooded valley; a circus tent; an orchard; a windmill; a polar station; a jazz club; a hotel with one guest; a
labyrinth; a printing house; a planetarium; a ski hut; a jungle camp; a small post office; an antique shop; a swamp; a
cathedral tower; a car park in the rain; a bakery before sunrise; an empty stadium; a border crossing; a beach in
November; a hot spring
""".replace("\n", " ").split(";")

SENTENCES = """
The bakery opens at six in the morning.; I forgot my umbrella on the bus.; Do you have a table for four?; My brother
plays the trumpet very loudly.; The bill, please.; We missed the last ferry.; Is breakfast included in the price?; The
cat is sleeping on my suitcase.; I am looking for a birthday present for my aunt.; The road is closed because of the
snow.; Turn left after the bridge.; She speaks four languages.; The film was too long, but the music was beautiful.; I
don't eat meat.; Could you speak more slowly?; Our flight has been cancelled.; The soup needs more salt.; He wants to
become a carpenter.; What time does the shop close?; I have been waiting for an hour.; The keys are under the
flowerpot.; It is colder today than yesterday.; They will get married in June.; My phone battery is empty.; There is a
spider in the bath.; Can I pay by card?; The teacher praised the whole class.; We need two more chairs.; I am allergic
to nuts.; The river flows through three countries.; Nobody answered the door.; You should see a doctor.; The painting
was stolen last night.; If it rains, we will stay at home.; He broke his arm while skiing.; This seat is taken.; Thank
you for your patience.; The baby has just fallen asleep.; I would rather walk than drive.; Her grandfather built this
boat.; The meeting was moved to Thursday.; Please send me the documents by Friday.; The apples in our garden are
ripe.; I didn't understand the question.; The train was crowded, so we had to stand.; Do not touch the wet paint.; The
old man feeds the pigeons every day.; We have run out of milk.; The lake is deep and very clear.; I have never been to
Africa.; The children are afraid of the dark.; Someone is knocking at the window.; The city looks different at night.;
Let's meet in front of the theatre.; My neighbour waters my plants when I travel.; The shoes are nice, but they are
too small.; She laughed until she cried.; The power went out during dinner.; He writes a letter to his mother every
week.; The bread is still warm.; How far is it to the station?; I dreamed about the sea.
""".replace("\n", " ").split(";")
